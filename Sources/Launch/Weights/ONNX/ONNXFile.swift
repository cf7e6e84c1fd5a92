import Dist
import Foundation
import ONNXFormat

/// A graph with its weights as a file of ONNX. Weights of over 256 MiB lie in a file of their own beside it, from which
/// they are mapped into memory, and which may be larger than the 2 GiB that a model's file can be.
struct ONNXFile {
  /// The bytes of weights up to which they lie in the model's own file.
  static let mostEmbedded = 256 << 20
  /// Smaller tensors, such as shapes, always lie in the model's own file, where every program looks for them.
  static let leastExternal = 1024
  /// Tensors in a file of their own begin at multiples of a page.
  static let page = 4096

  /// The name of the model's file.
  let name: String
  let graph: ONNXGraph
  /// What the file says of the model beside its graph.
  let metadata: [String: String]
  var mostEmbedded = Self.mostEmbedded

  private var isExternal: Bool { graph.initializers.reduce(0) { $0 + $1.byteCount } > mostEmbedded }
  private var dataName: String { "\(name).data" }
  /// The names of the files that it takes.
  var names: [String] { isExternal ? [name, dataName] : [name] }

  /// Writes the files into an existing folder, the model's own last, so that it never lacks its weights.
  func write(to folder: URL) throws {
    let tensors = try isExternal ? writeData(to: folder) : graph.initializers.map(Self.embedded)
    let model = graph.model(name: name, initializers: tensors, metadata: metadata)
    let bytes = try model.fileBytes
    try Publish.file(folder.appending(path: name).relativePath) { output throws(FileError) in try output.append(bytes) }
  }

  private static func embedded(_ initializer: ONNXInitializer) -> Onnx_TensorProto {
    var tensor = initializer.description
    tensor.rawData = Data(initializer.bytes())
    return tensor
  }

  /// Writes the file of weights, one after another, and returns the tensors with their places in it.
  private func writeData(to folder: URL) throws -> [Onnx_TensorProto] {
    var tensors: [Onnx_TensorProto] = []
    try Publish.file(folder.appending(path: dataName).relativePath) { output throws(FileError) in
      var end = 0
      for initializer in graph.initializers {
        guard initializer.byteCount >= Self.leastExternal else {
          tensors.append(Self.embedded(initializer))
          continue
        }
        let start = (end + Self.page - 1) / Self.page * Self.page
        try output.append([UInt8](repeating: 0, count: start - end))
        try output.append(initializer.bytes())
        end = start + initializer.byteCount
        var tensor = initializer.description
        tensor.dataLocation = .external
        tensor.externalData = [
          Onnx_StringStringEntryProto("location", dataName), Onnx_StringStringEntryProto("offset", "\(start)"),
          Onnx_StringStringEntryProto("length", "\(initializer.byteCount)"),
        ]
        tensors.append(tensor)
      }
    }
    return tensors
  }
}
