public import Tensor

/// A tensor to write into a safetensors file.
public struct SafetensorsEntry: Sendable {
  enum Values: Sendable {
    case floats(Tensor<Float>)
    case doubles(Tensor<Double>)
    case integers([Int])
  }

  let description: TensorDescription
  let values: Values

  public var name: String { description.name }
  public var type: SafetensorsType { description.type }

  /// Creates a tensor that is written as F32.
  public init(_ name: String, _ tensor: Tensor<Float>) {
    self.init(name: name, type: .float32, shape: tensor.shape.array, values: .floats(tensor))
  }

  /// Creates a tensor that is written as F64.
  public init(_ name: String, _ tensor: Tensor<Double>) {
    self.init(name: name, type: .float64, shape: tensor.shape.array, values: .doubles(tensor))
  }

  /// Creates a tensor that is written as one of the integer types. Writing throws if a number does not fit it.
  public init(_ name: String, integers: [Int], shape: Shape, type: SafetensorsType = .int64) {
    precondition(!type.isFloatingPoint, "\(type.rawValue) is not an integer type")
    precondition(integers.count == shape.count, "\(integers.count) integers for \(shape)")
    self.init(name: name, type: type, shape: shape.array, values: .integers(integers))
  }

  private init(name: String, type: SafetensorsType, shape: [Int], values: Values) {
    description = TensorDescription(name: name, type: type, shape: shape)
    self.values = values
  }
}

extension SafetensorsFile {
  /// Writes the file `path` by `Publish`, so that a crash leaves either the old file or the new one.
  ///
  /// Tensors of wide types come first, so that each is aligned to the size of its numbers. Otherwise the order is kept.
  public static func write(
    _ entries: [SafetensorsEntry], metadata: [String: String] = [:], to path: String
  ) throws(SafetensorsError) {
    let descriptions = entries.map(\.description)
    let order = order(descriptions)
    let header = try header(order.map { descriptions[$0] }, metadata, path)
    for entry in entries {
      guard case .integers(let values) = entry.values else { continue }
      if let value = values.first(where: { !entry.type.integers.contains($0) }) {
        throw SafetensorsError(
          path: path, reason: "tensor \(entry.name) holds \(value), which does not fit \(entry.type.rawValue)")
      }
    }
    try SafetensorsError.naming(path) { () throws(FileError) in
      try Publish.file(
        path, raising: { $0 },
        body: { file throws(FileError) in
          try file.append([UInt64(header.count)])
          try file.append(header)
          for index in order { try entries[index].append(to: file) }
        })
    }
  }

  /// Creates a file in which all numbers of the tensors are zeros. Returns the byte offset of each tensor's numbers.
  static func create(
    _ tensors: [TensorDescription], metadata: [String: String], at path: String
  ) throws(SafetensorsError) -> [Int] {
    let order = order(tensors)
    let header = try header(order.map { tensors[$0] }, metadata, path)
    var end = 8 + header.count
    var offsets = [Int](repeating: end, count: tensors.count)
    for index in order {
      offsets[index] = end
      end += tensors[index].byteCount
    }
    try SafetensorsError.naming(path) { () throws(FileError) in
      let file = try OpenFile.creating(path)
      try file.append([UInt64(header.count)])
      try file.append(header)
      try file.resize(end)
      try file.sync()
    }
    return offsets
  }

  /// Returns the order in which the tensors are stored: those of wide types come first.
  private static func order(_ tensors: [TensorDescription]) -> [Int] {
    tensors.indices.sorted { (tensors[$1].type.size, $0) < (tensors[$0].type.size, $1) }
  }

  private static func header(
    _ entries: [TensorDescription], _ metadata: [String: String], _ path: String
  ) throws(SafetensorsError) -> [UInt8] {
    var names: Set<String> = ["__metadata__"]
    var members: [String] = []
    if !metadata.isEmpty {
      let pairs = metadata.sorted { $0.key < $1.key }
        .map { "\(StrictJSON.quote($0.key)):\(StrictJSON.quote($0.value))" }
      members.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
    }
    var offset = 0
    for entry in entries {
      guard names.insert(entry.name).inserted else {
        throw SafetensorsError(path: path, reason: "two tensors to write have the name \(entry.name)")
      }
      let end = offset + entry.byteCount
      let shape = entry.shape.map(String.init).joined(separator: ",")
      members.append(
        "\(StrictJSON.quote(entry.name)):{\"dtype\":\"\(entry.type.rawValue)\",\"shape\":[\(shape)],"
          + "\"data_offsets\":[\(offset),\(end)]}")
      offset = end
    }
    let json = Array("{\(members.joined(separator: ","))}".utf8)
    // Spaces let the numbers begin at a multiple of eight bytes.
    return json + [UInt8](repeating: UInt8(ascii: " "), count: (8 - json.count % 8) % 8)
  }
}

extension SafetensorsEntry {
  /// Appends the tensor's numbers to a file.
  fileprivate func append(to file: OpenFile) throws(FileError) {
    switch values {
    case .floats(let tensor): try file.append(tensor)
    case .doubles(let tensor): try file.append(tensor)
    case .integers(let values):
      switch type {
      case .int64: try file.append(values.map { Int64($0) })
      case .int32: try file.append(values.map { Int32($0) })
      case .int16: try file.append(values.map { Int16($0) })
      case .int8: try file.append(values.map { Int8($0) })
      default: try file.append(values.map { UInt8($0) })
      }
    }
  }
}

extension SafetensorsType {
  /// The range of the numbers of an integer type.
  fileprivate var integers: ClosedRange<Int> {
    let largest =
      switch self {
      case .bool: 1
      case .uint8: 255
      default: Int.max >> (64 - 8 * size)
      }
    return (self == .bool || self == .uint8 ? 0 : -largest - 1)...largest
  }
}
