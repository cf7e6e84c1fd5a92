import SwiftProtobuf

extension Onnx_ModelProto {
  /// Returns the model as a file has it. Equal models give equal bytes. Throws for a model beyond 2 GiB, which no
  /// message of Protocol Buffers can be.
  package var fileBytes: [UInt8] { get throws { try serializedBytes() } }

  /// Reads a model from the bytes of a file.
  package init(fileBytes: [UInt8]) throws { try self.init(serializedBytes: fileBytes) }
}
