import ONNXFormat
import Tensor

/// The type of a tensor's numbers, by its name in ONNX's schema.
typealias ONNXType = Onnx_TensorProto.DataType

/// A tensor of a graph, which nodes read by its name: an input, an initializer, or the output of a node.
struct ONNXValue: Equatable {
  let name: String
  let type: ONNXType
}

/// The value of a node's attribute.
enum ONNXAttribute: ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral, ExpressibleByArrayLiteral {
  case integer(Int)
  case float(Float)
  case integers([Int])

  init(integerLiteral value: Int) { self = .integer(value) }
  init(floatLiteral value: Float) { self = .float(value) }
  init(arrayLiteral elements: Int...) { self = .integers(elements) }
}

/// A size of a graph's input or output: a number, or the name of a size that each call decides.
enum ONNXSize: ExpressibleByIntegerLiteral, ExpressibleByStringLiteral {
  case fixed(Int)
  case named(String)

  init(integerLiteral value: Int) { self = .fixed(value) }
  init(stringLiteral value: String) { self = .named(value) }
}

/// A graph of ONNX's operators that grows node by node, each with the values that it reads. Names and order follow from
/// the order of the calls alone, so that equal models give equal files.
final class ONNXGraph {
  /// The version of the operators: the first with LayerNormalization.
  static let opset = 17
  /// The version of the file's format that belongs to these operators.
  static let irVersion = 8
  private(set) var nodes: [Onnx_NodeProto] = []
  private(set) var initializers: [ONNXInitializer] = []
  private(set) var inputs: [Onnx_ValueInfoProto] = []
  private(set) var outputs: [Onnx_ValueInfoProto] = []
  private var known: [String: ONNXValue] = [:]

  func input(_ name: String, _ type: ONNXType, _ sizes: [ONNXSize]) -> ONNXValue {
    let value = ONNXValue(name: name, type: type)
    inputs.append(Self.description(of: value, sizes))
    return value
  }

  /// Makes a value, which must have the name that users are to read, an output of the graph.
  func output(_ value: ONNXValue, _ sizes: [ONNXSize]) { outputs.append(Self.description(of: value, sizes)) }

  /// Adds a node with one output, of the type of its first input unless `type` names another, and returns the output.
  func node(
    _ operation: String, _ inputs: [ONNXValue], _ attributes: KeyValuePairs<String, ONNXAttribute> = [:],
    type: ONNXType? = nil, output name: String? = nil
  ) -> ONNXValue {
    let output = ONNXValue(name: name ?? "\(operation)_\(nodes.count + 1)", type: type ?? inputs[0].type)
    add(operation, inputs, attributes, [output])
    return output
  }

  /// Adds a node with several outputs, one for each of the types, and returns them.
  func nodes(
    _ operation: String, _ inputs: [ONNXValue], _ attributes: KeyValuePairs<String, ONNXAttribute> = [:],
    types: [ONNXType]
  ) -> [ONNXValue] {
    let outputs = types.enumerated().map { index, type in
      ONNXValue(name: "\(operation)_\(nodes.count + 1)_\(index + 1)", type: type)
    }
    add(operation, inputs, attributes, outputs)
    return outputs
  }

  private func add(
    _ operation: String, _ inputs: [ONNXValue], _ attributes: KeyValuePairs<String, ONNXAttribute>,
    _ outputs: [ONNXValue]
  ) {
    var node = Onnx_NodeProto()
    node.name = outputs[0].name
    node.opType = operation
    node.input = inputs.map(\.name)
    node.output = outputs.map(\.name)
    node.attribute = attributes.map { name, value in
      var attribute = Onnx_AttributeProto()
      attribute.name = name
      switch value {
      case .integer(let number): (attribute.type, attribute.i) = (.int, Int64(number))
      case .float(let number): (attribute.type, attribute.f) = (.float, number)
      case .integers(let numbers): (attribute.type, attribute.ints) = (.ints, numbers.map { Int64($0) })
      }
      return attribute
    }
    nodes.append(node)
  }

  /// Adds an initializer, or returns the one of this name, which must then hold the same.
  func initializer(_ initializer: ONNXInitializer) -> ONNXValue {
    if let value = known[initializer.name] { return value }
    let value = ONNXValue(name: initializer.name, type: initializer.type)
    known[initializer.name] = value
    initializers.append(initializer)
    return value
  }

  /// Returns a vector of integers, such as a shape, as an initializer.
  func integers(_ values: [Int]) -> ONNXValue {
    initializer(
      ONNXInitializer(name: "integers_\(Self.words(values))", type: .int64, shape: [values.count]) {
        values.map { Int64($0) }.littleEndianBytes
      })
  }

  /// Returns an integer, a tensor without sizes, as an initializer.
  func integer(_ value: Int) -> ONNXValue {
    initializer(
      ONNXInitializer(name: "integer_\(Self.words([value]))", type: .int64, shape: []) {
        [Int64(value)].littleEndianBytes
      })
  }

  /// Returns a number, a tensor without sizes, of 32 or 16 bits as an initializer.
  func scalar(_ value: Float, _ type: ONNXType) -> ONNXValue {
    let name = "\(type == .float16 ? "half" : "float")_\(String(value.bitPattern, radix: 16))"
    return initializer(
      ONNXInitializer(name: name, type: type, shape: []) {
        type == .float16 ? [Float16(value).bitPattern].littleEndianBytes : [value.bitPattern].littleEndianBytes
      })
  }

  private static func words(_ values: [Int]) -> String {
    values.map { $0 < 0 ? "minus\($0.magnitude)" : "\($0)" }.joined(separator: "_")
  }

  private static func description(of value: ONNXValue, _ sizes: [ONNXSize]) -> Onnx_ValueInfoProto {
    var info = Onnx_ValueInfoProto()
    info.name = value.name
    info.type.tensorType.elemType = Int32(value.type.rawValue)
    info.type.tensorType.shape.dim = sizes.map { size in
      var dimension = Onnx_TensorShapeProto.Dimension()
      switch size {
      case .fixed(let number): dimension.dimValue = Int64(number)
      case .named(let name): dimension.dimParam = name
      }
      return dimension
    }
    return info
  }

  /// Returns the model with this graph, given its initializers with their numbers or the places of these.
  func model(
    name: String, initializers: [Onnx_TensorProto], metadata: [String: String]
  ) -> Onnx_ModelProto {
    var graph = Onnx_GraphProto()
    graph.name = name
    (graph.node, graph.initializer, graph.input, graph.output) = (nodes, initializers, inputs, outputs)
    var operators = Onnx_OperatorSetIdProto()
    (operators.domain, operators.version) = ("", Int64(Self.opset))
    var model = Onnx_ModelProto()
    model.irVersion = Int64(Self.irVersion)
    (model.producerName, model.producerVersion) = ("kinship", Release.version)
    model.opsetImport = [operators]
    model.graph = graph
    model.metadataProps = metadata.sorted { $0.key < $1.key }.map { Onnx_StringStringEntryProto($0.key, $0.value) }
    return model
  }
}

extension Onnx_StringStringEntryProto {
  init(_ key: String, _ value: String) {
    self.init()
    (self.key, self.value) = (key, value)
  }
}
