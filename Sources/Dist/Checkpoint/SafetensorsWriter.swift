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

  /// Numbers as F32.
  public init(_ name: String, _ tensor: Tensor<Float>) {
    self.init(name: name, type: .float32, shape: tensor.shape.array, values: .floats(tensor))
  }

  /// Numbers as F64.
  public init(_ name: String, _ tensor: Tensor<Double>) {
    self.init(name: name, type: .float64, shape: tensor.shape.array, values: .doubles(tensor))
  }

  /// Integers as one of the integer types; writing one that does not fit is an error.
  public init(_ name: String, integers: [Int], shape: Shape, type: SafetensorsType = .int64) {
    precondition(!type.isFloatingPoint, "\(type.rawValue) is no integer type")
    precondition(integers.count == shape.count, "\(integers.count) integers for \(shape)")
    self.init(name: name, type: type, shape: shape.array, values: .integers(integers))
  }

  private init(name: String, type: SafetensorsType, shape: [Int], values: Values) {
    description = TensorDescription(name: name, type: type, shape: shape)
    self.values = values
  }
}

extension SafetensorsFile {
  /// Writes a file at once: under a temporary name first, brought to the disk, then renamed to `path`, so that a
  /// crash leaves the old file or the new one.
  ///
  /// Tensors of wide types come first, so that each is aligned to its numbers' size; otherwise the order is kept.
  public static func write(
    _ entries: [SafetensorsEntry], metadata: [String: String] = [:], to path: String
  ) throws(SafetensorsError) {
    let descriptions = entries.map(\.description)
    let order = order(descriptions)
    let header = try header(order.map { descriptions[$0] }, metadata, path)
    try Publish.file(
      path, raising: { SafetensorsError($0, path: path) },
      body: { file throws(SafetensorsError) in
        try SafetensorsError.naming(path) { () throws(FileError) in
          try file.append([UInt64(header.count)])
          try file.append(header)
        }
        for index in order { try append(entries[index], to: file, path) }
      })
  }

  /// Makes a file with room for the tensors' numbers, which are zeros until they are written; returns where those of
  /// each tensor begin.
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

  /// Wide types first.
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
    // The numbers begin at a multiple of eight bytes.
    return json + [UInt8](repeating: UInt8(ascii: " "), count: (8 - json.count % 8) % 8)
  }

  private static func append(
    _ entry: SafetensorsEntry, to file: OpenFile, _ path: String
  ) throws(SafetensorsError) {
    switch entry.values {
    case .floats(let tensor):
      try SafetensorsError.naming(path) { () throws(FileError) in try file.append(tensor) }
    case .doubles(let tensor):
      try SafetensorsError.naming(path) { () throws(FileError) in try file.append(tensor) }
    case .integers(let values):
      switch entry.type {
      case .int64: try append(values, Int64.self, entry, file, path)
      case .int32: try append(values, Int32.self, entry, file, path)
      case .int16: try append(values, Int16.self, entry, file, path)
      case .int8: try append(values, Int8.self, entry, file, path)
      default: try append(values, UInt8.self, entry, file, path)
      }
    }
  }

  private static func append<I: FixedWidthInteger & BitwiseCopyable>(
    _ values: [Int], _: I.Type, _ entry: SafetensorsEntry, _ file: OpenFile, _ path: String
  ) throws(SafetensorsError) {
    let largest = entry.type == .bool ? 1 : Int(I.max)
    if let value = values.first(where: { $0 < Int(I.min) || $0 > largest }) {
      throw SafetensorsError(
        path: path, reason: "tensor \(entry.name) holds \(value), which does not fit \(entry.type.rawValue)")
    }
    try SafetensorsError.naming(path) { () throws(FileError) in try file.append(values.map { I($0) }) }
  }
}
