import Dist
import Foundation
import Model
import ONNXFormat
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Tiny models of every kind, and what tests read of their files of ONNX.
struct ONNXScene {
  let folder = try! TemporaryFolder()

  static let transformer = """
    {"embed_dim": 6, "quick_gelu": true, "init_logit_bias": -10,
     "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 8, "layers": 2, "head_width": 4},
     "text_cfg": {"context_length": 5, "vocab_size": 9, "width": 4, "heads": 2, "layers": 2}}
    """
  static let resNet = """
    {"embed_dim": 6, "vision_cfg": {"image_size": 32, "width": 2, "layers": [1, 1, 2, 1], "head_width": 16},
     "text_cfg": {"context_length": 5, "vocab_size": 9, "width": 4, "heads": 2, "layers": 1}}
    """
  /// Two blocks of which each has heads and hidden units of its own.
  static let pruned = """
    {"embed_dim": 6,
     "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 6, "layers": 2, "head_width": 4, "blocks":
      {"head_width": 4, "heads": [1, 2], "hidden": [9, 5], "full_width": 8, "full_heads": 2, "full_hidden": 32}},
     "text_cfg": {"context_length": 5, "vocab_size": 9, "width": 4, "heads": 2, "layers": 2, "blocks":
      {"head_width": 2, "heads": [2, 1], "hidden": [3, 7], "full_width": 4, "full_heads": 2, "full_hidden": 16}}}
    """

  /// A model with numbers of its own in every place, running statistics too.
  static func model(_ json: String) throws -> CLIP<Float> {
    let model = CLIP<Float>(try CLIPConfig(json: Data(json.utf8)), frozen: true)
    for entry in model.entries { copy(.random(entry.shape, entry.name), into: model.parameters.value(of: entry)) }
    for (index, buffer) in model.parameters.buffers.enumerated() {
      fill(model.parameters.value(of: buffer), Double(index + 1))
    }
    return model
  }

  /// Writes the files of a model into a folder of this name and reads them back.
  func export(
    _ model: CLIP<Float>, _ numbers: ONNXNumbers = .fp32, mostEmbedded: Int = ONNXFile.mostEmbedded, to name: String
  ) throws -> (visual: ONNXFound, textual: ONNXFound) {
    let url = folder.url.appending(path: name, directoryHint: .isDirectory)
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    try ONNXExport(model, numbers, mostEmbedded: mostEmbedded).write(to: url)
    return (
      try ONNXFound(url.appending(path: ONNXExport.image)), try ONNXFound(url.appending(path: ONNXExport.text))
    )
  }
}

/// A file of ONNX as a test reads it.
struct ONNXFound {
  let model: Onnx_ModelProto
  /// The bytes of the file of weights; nil if there is none.
  let data: [UInt8]?
  private let tensors: [String: Onnx_TensorProto]

  init(_ file: URL) throws {
    model = try Onnx_ModelProto(fileBytes: [UInt8](Data(contentsOf: file)))
    let beside = URL(filePath: file.path + ".data")
    let isThere = FileManager.default.fileExists(atPath: beside.path)
    data = isThere ? [UInt8](try Data(contentsOf: beside)) : nil
    tensors = Dictionary(model.graph.initializer.map { ($0.name, $0) }) { first, _ in first }
  }

  var operations: [String] { model.graph.node.map(\.opType) }
  var metadata: [String: String] { Dictionary(uniqueKeysWithValues: model.metadataProps.map { ($0.key, $0.value) }) }

  func tensor(_ name: String) throws -> Onnx_TensorProto {
    try #require(tensors[name], "\(name) among \(tensors.keys.sorted())")
  }

  func sizes(_ name: String) throws -> [Int] { try tensor(name).dims.map { Int($0) } }

  /// The bytes of an initializer, wherever they lie.
  func bytes(_ name: String) throws -> [UInt8] {
    let tensor = try tensor(name)
    guard tensor.dataLocation == .external else { return [UInt8](tensor.rawData) }
    let place = Dictionary(uniqueKeysWithValues: tensor.externalData.map { ($0.key, $0.value) })
    let start = try #require(place["offset"].flatMap { Int($0) })
    let length = try #require(place["length"].flatMap { Int($0) })
    let data = try #require(data)
    return Array(data[start..<start + length])
  }

  func floats(_ name: String) throws -> [Float] {
    try words(name).map { Float(bitPattern: UInt32($0)) }
  }

  func halves(_ name: String) throws -> [Float] {
    try words(name).map { Float(Float16(bitPattern: UInt16($0))) }
  }

  func int8s(_ name: String) throws -> [Int] { try bytes(name).map { Int(Int8(bitPattern: $0)) } }
  func integers(_ name: String) throws -> [Int] { try words(name).map { Int(Int64(bitPattern: $0)) } }

  /// The numbers of an initializer without their meaning.
  private func words(_ name: String) throws -> [UInt64] {
    let (bytes, count) = (try bytes(name), try sizes(name).reduce(1, *))
    try #require(bytes.count % count == 0)
    let size = bytes.count / count
    return (0..<count).map { index in
      bytes[index * size..<(index + 1) * size].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
  }

  /// Requires what `onnx.checker` does of names: each node reads what precedes it, and nothing has two origins.
  func requireOrder() throws {
    var known = Set<String>()
    for name in model.graph.input.map(\.name) + model.graph.initializer.map(\.name) {
      #expect(known.insert(name).inserted, "\(name) is there twice")
    }
    var unread = known
    for node in model.graph.node {
      for name in node.input { #expect(known.contains(name), "\(node.name) reads \(name), which is not there yet") }
      unread.subtract(node.input)
      for name in node.output {
        #expect(known.insert(name).inserted, "\(name) is there twice")
        unread.insert(name)
      }
    }
    let outputs = Set(model.graph.output.map(\.name))
    #expect(unread == outputs, "\(unread.symmetricDifference(outputs)) are read by nothing")
  }

  /// The sizes of an input or output: numbers, and names of sizes that calls decide.
  static func shape(_ info: Onnx_ValueInfoProto) -> [String] {
    info.type.tensorType.shape.dim.map { size in
      if case .dimParam(let name)? = size.value { name } else { "\(size.dimValue)" }
    }
  }
}
