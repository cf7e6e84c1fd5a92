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
    description = TensorDescription(name: name, type: .float32, shape: tensor.shape.array)
    values = .floats(tensor)
  }

  /// Creates a tensor that is written as F64.
  public init(_ name: String, _ tensor: Tensor<Double>) {
    description = TensorDescription(name: name, type: .float64, shape: tensor.shape.array)
    values = .doubles(tensor)
  }

  /// Creates a tensor that is written as one of the integer types. Writing throws if a number does not fit it.
  public init(_ name: String, integers: [Int], shape: Shape, type: SafetensorsType = .int64) {
    precondition(!type.isFloatingPoint, "\(type.rawValue) is not an integer type")
    precondition(integers.count == shape.count, "\(integers.count) integers for \(shape)")
    description = TensorDescription(name: name, type: type, shape: shape.array)
    values = .integers(integers)
  }
}

extension SafetensorsFile {
  /// Writes the file `path` by `Publish`. Tensors of wide types come first, so that all are aligned.
  public static func write(
    _ entries: [SafetensorsEntry], metadata: [String: String] = [:], to path: String
  ) throws(SafetensorsError) {
    let descriptions = entries.map(\.description)
    let order = order(descriptions)
    let header = try header(order.map { descriptions[$0] }, metadata, path)
    for entry in entries {
      guard case .integers(let values) = entry.values,
        let value = values.first(where: { !entry.type.integers.contains($0) })
      else { continue }
      throw SafetensorsError(
        path: path, reason: "tensor \(entry.name) holds \(value), which does not fit \(entry.type.rawValue)")
    }
    try SafetensorsError.naming(path) { () throws(FileError) in
      try Publish.file(path) { file throws(FileError) in
        try file.append([UInt64(header.count)])
        try file.append(header)
        for index in order { try entries[index].append(to: file) }
      }
    }
  }

  /// Creates a file in which all numbers of the tensors are zeros. Returns the byte offset of each tensor's numbers.
  static func create(
    _ tensors: [TensorDescription], metadata: [String: String], at path: String
  ) throws(SafetensorsError) -> [Int] {
    let order = order(tensors)
    let header = try header(order.map { tensors[$0] }, metadata, path)
    let places = order.map { tensors[$0].byteCount }.endToEnd.map { $0.moved(by: 8 + header.count) }
    var offsets = [Int](repeating: 0, count: tensors.count)
    for (index, place) in zip(order, places) { offsets[index] = place.lowerBound }
    try SafetensorsError.naming(path) { () throws(FileError) in
      let file = try OpenFile.creating(path)
      try file.append([UInt64(header.count)])
      try file.append(header)
      try file.resize(places.last?.upperBound ?? 8 + header.count)
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
      let pairs = metadata.map { ($0, "\(StrictJSON.quote($0)):\(StrictJSON.quote($1))") }.sorted { $0.0 < $1.0 }
      members.append("\"__metadata__\":{\(pairs.map { $0.1 }.joined(separator: ","))}")
    }
    for (entry, place) in zip(entries, entries.map(\.byteCount).endToEnd) {
      guard names.insert(entry.name).inserted else {
        throw SafetensorsError(path: path, reason: "two tensors to write have the name \(entry.name)")
      }
      let shape = entry.shape.map(String.init).joined(separator: ",")
      members.append(
        "\(StrictJSON.quote(entry.name)):{\"dtype\":\"\(entry.type.rawValue)\",\"shape\":[\(shape)],"
          + "\"data_offsets\":[\(place.lowerBound),\(place.upperBound)]}")
    }
    let json = Array("{\(members.joined(separator: ","))}".utf8)
    // Spaces let the numbers begin at a multiple of eight bytes.
    return json + [UInt8](repeating: UInt8(ascii: " "), count: (8 - json.count % 8) % 8)
  }
}

extension SafetensorsEntry {
  fileprivate func append(to file: OpenFile) throws(FileError) {
    switch values {
    case .floats(let tensor): try file.append(tensor)
    case .doubles(let tensor): try file.append(tensor)
    case .integers(let values):
      try file.append(values.flatMap { value in (0..<type.size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } })
    }
  }
}

extension SafetensorsType {
  fileprivate var integers: ClosedRange<Int> {
    let largest = Int.max >> (64 - 8 * size)
    return self == .bool ? 0...1 : self == .uint8 ? 0...255 : -largest - 1...largest
  }
}
