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
  /// Writes the file `path` by `Publish`, with its digest in the metadata. Tensors of wide types come first, so that
  /// all are aligned.
  public static func write(
    _ entries: [SafetensorsEntry], metadata: [String: String] = [:], to path: String
  ) throws(SafetensorsError) {
    for entry in entries {
      guard case .integers(let values) = entry.values,
        let value = values.first(where: { !entry.type.integers.contains($0) })
      else { continue }
      throw SafetensorsError(
        path: path, reason: "tensor \(entry.name) holds \(value), which does not fit \(entry.type.rawValue)")
    }
    let tensors = entries.map(\.description)
    let ordered = order(tensors).map { entries[$0] }
    var hasher = SHA256()
    try hasher.update(Self.front(tensors, metadata, path))
    for entry in ordered { unsafe entry.withBytes { unsafe hasher.update($0) } }
    let digest = SafetensorsDigest.text(hasher.finalize().hexadecimal)
    let front = try Self.front(tensors, metadata, digest: digest, path)
    try SafetensorsError.naming(path) { () throws(FileError) in
      try Publish.file(path) { file throws(FileError) in
        try file.append(front)
        for entry in ordered {
          try unsafe entry.withBytes { bytes throws(FileError) in try unsafe file.append(bytes) }
        }
      }
    }
  }

  /// Creates a file in which all numbers of the tensors are zeros. Returns the byte offset of each tensor's numbers.
  /// The file is not valid before `seal`.
  static func create(
    _ tensors: [TensorDescription], metadata: [String: String], at path: String
  ) throws(SafetensorsError) -> [Int] {
    let order = order(tensors)
    let front = try Self.front(tensors, metadata, path)
    let places = order.map { tensors[$0].byteCount }.endToEnd.map { $0.moved(by: front.count) }
    var offsets = [Int](repeating: 0, count: tensors.count)
    for (index, place) in zip(order, places) { offsets[index] = place.lowerBound }
    try SafetensorsError.naming(path) { () throws(FileError) in
      let file = try OpenFile.creating(path)
      try file.append(front)
      try file.resize(places.last?.upperBound ?? front.count)
      try file.sync()
    }
    return offsets
  }

  /// Writes the digest into a file that was created for these tensors and this metadata, and syncs it to the disk.
  static func seal(
    _ tensors: [TensorDescription], metadata: [String: String], at path: String
  ) throws(SafetensorsError) {
    // The digest's place still holds zeros, as it counts for the digest.
    let digits = try SafetensorsError.naming(path) { () throws(FileError) in try OpenFile.reading(path).sha256() }
    let front = try Self.front(tensors, metadata, digest: SafetensorsDigest.text(digits), path)
    try SafetensorsError.naming(path) { () throws(FileError) in try OpenFile.rewrite(front, of: path) }
  }

  /// Returns the order in which the tensors are stored: those of wide types come first.
  private static func order(_ tensors: [TensorDescription]) -> [Int] {
    tensors.indices.sorted { (tensors[$1].type.size, $0) < (tensors[$0].type.size, $1) }
  }

  /// Returns a file's bytes before the numbers of its tensors: the length of the header, and the header.
  private static func front(
    _ tensors: [TensorDescription], _ metadata: [String: String], digest: String = SafetensorsDigest.blank,
    _ path: String
  ) throws(SafetensorsError) -> [UInt8] {
    let entries = order(tensors).map { tensors[$0] }
    var names: Set<String> = ["__metadata__"]
    let pairs = metadata.merging([SafetensorsDigest.key: digest]) { $1 }
      .map { ($0, "\(StrictJSON.quote($0)):\(StrictJSON.quote($1))") }.sorted { $0.0 < $1.0 }
    var members = ["\"__metadata__\":{\(pairs.map { $0.1 }.joined(separator: ","))}"]
    for (entry, place) in zip(entries, entries.map(\.byteCount).endToEnd) {
      guard names.insert(entry.name).inserted else {
        throw SafetensorsError(path: path, reason: "two tensors to write have the name \(entry.name)")
      }
      let shape = entry.shape.map(String.init).joined(separator: ",")
      members.append(
        "\(StrictJSON.quote(entry.name)):{\"dtype\":\"\(entry.type.rawValue)\",\"shape\":[\(shape)],"
          + "\"data_offsets\":[\(place.lowerBound),\(place.upperBound)]}")
    }
    var json = Array("{\(members.joined(separator: ","))}".utf8)
    // Spaces let the numbers begin at a multiple of eight bytes.
    json += [UInt8](repeating: UInt8(ascii: " "), count: (8 - json.count % 8) % 8)
    return UInt64(json.count).littleEndianBytes + json
  }
}

extension SafetensorsEntry {
  /// Calls `body` with the bytes of the numbers, as they stand in the file.
  @unsafe fileprivate func withBytes<E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> Void) throws(E) {
    switch values {
    case .floats(let tensor):
      try unsafe tensor.withUnsafeMutableBuffer { buffer throws(E) in try unsafe body(UnsafeRawBufferPointer(buffer)) }
    case .doubles(let tensor):
      try unsafe tensor.withUnsafeMutableBuffer { buffer throws(E) in try unsafe body(UnsafeRawBufferPointer(buffer)) }
    case .integers(let values):
      let bytes = values.flatMap { $0.littleEndianBytes.prefix(type.size) }
      try unsafe bytes.withUnsafeBufferPointer { buffer throws(E) in try unsafe body(UnsafeRawBufferPointer(buffer)) }
    }
  }
}

extension SafetensorsType {
  fileprivate var integers: ClosedRange<Int> {
    let largest = Int.max >> (64 - 8 * size)
    return self == .bool ? 0...1 : self == .uint8 ? 0...255 : -largest - 1...largest
  }
}
