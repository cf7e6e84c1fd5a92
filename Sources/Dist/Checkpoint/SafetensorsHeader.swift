internal import Tensor

/// The header of a safetensors file, checked against the file's size: an 8-byte little-endian length, and that much
/// JSON, which maps each name to a type, a shape and the range of its bytes. The ranges tile the rest of the file.
struct SafetensorsHeader: Sendable {
  struct Entry: Sendable {
    let name: String
    let type: SafetensorsType
    let shape: [Int]
    /// The range of its bytes, counted from the end of the header.
    let range: Range<Int>
  }

  struct Problem: Error, CustomStringConvertible { let description: String }

  /// A limit on the header's bytes, far above those of any real model.
  static let longest = 100_000_000
  let entries: [Entry]
  let metadata: [String: String]

  private static func require(_ fact: Bool, _ problem: @autoclosure () -> String) throws(Problem) {
    guard fact else { throw Problem(description: problem()) }
  }

  /// Returns the length of the header in bytes, given the first eight bytes of the file and its size.
  static func length(_ prefix: [UInt8], fileSize: Int) throws(Problem) -> Int {
    try require(prefix.count == 8, "it has \(fileSize) bytes, too few for a header")
    let length = prefix.little(8, at: 0)
    try require(length <= longest, "its header claims \(length) bytes, more than the \(longest) allowed")
    let rest = fileSize - 8
    try require(Int(length) <= rest, "its header claims \(length) bytes, the file has \(rest) after the length")
    return Int(length)
  }

  /// Parses the JSON of a header that `dataSize` bytes follow in the file.
  init(_ json: [UInt8], dataSize: Int) throws(Problem) {
    let document: StrictJSON
    // A tensor's eight or more values take about sixty bytes; a list of digits would take fifty times its bytes.
    do throws(StrictJSON.Problem) { document = try StrictJSON.parse(json, most: 64 + json.count / 4) } catch {
      throw Problem(description: "its header is not JSON as expected: \(error)")
    }
    var entries: [Entry] = []
    var metadata: [String: String] = [:]
    for member in try Self.members(document, "its header") {
      if member.key == "__metadata__" {
        metadata = try Self.metadata(member.value)
      } else {
        entries.append(try Self.entry(member.key, member.value))
      }
    }
    entries.sort { ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound) }
    try Self.checkTiling(entries, dataSize)
    (self.entries, self.metadata) = (entries, metadata)
  }

  private static func members(_ value: StrictJSON, _ what: String) throws(Problem) -> [StrictJSON.Member] {
    guard case .object(let members) = value else {
      throw Problem(description: "\(what) is \(value.kind), expected an object")
    }
    return members
  }

  private static func metadata(_ value: StrictJSON) throws(Problem) -> [String: String] {
    var metadata: [String: String] = [:]
    for member in try members(value, "__metadata__") {
      guard case .string(let text) = member.value else {
        throw Problem(description: "__metadata__ key \(member.key) is \(member.value.kind), expected a string")
      }
      metadata[member.key] = text
    }
    return metadata
  }

  private static func entry(_ name: String, _ value: StrictJSON) throws(Problem) -> Entry {
    var fields: [String: StrictJSON] = [:]
    for member in try members(value, "the entry of tensor \(name)") { fields[member.key] = member.value }
    let found = fields.keys.sorted()
    try require(
      found == ["data_offsets", "dtype", "shape"],
      "tensor \(name) has the fields \(found.joined(separator: ", ")); expected data_offsets, dtype, shape")
    guard case .string(let typeName)? = fields["dtype"] else {
      throw Problem(description: "tensor \(name): dtype is not a string")
    }
    guard let type = SafetensorsType(rawValue: typeName) else {
      let known = SafetensorsType.allCases.map(\.rawValue).joined(separator: ", ")
      throw Problem(description: "tensor \(name) has dtype \(typeName); known are \(known)")
    }
    let shape = try sizes(fields["shape"], "shape", of: name)
    let offsets = try sizes(fields["data_offsets"], "data_offsets", of: name)
    try require(
      offsets.count == 2 && offsets[0] <= offsets[1],
      "tensor \(name): data_offsets are \(offsets), expected a start and an end")
    guard let bytes = shape.product(type.size) else {
      throw Problem(description: "tensor \(name): the shape \(shape) is too large")
    }
    let given = offsets[1] - offsets[0]
    try require(
      bytes == given,
      "tensor \(name): \(typeName) of shape \(shape) takes \(bytes) bytes, data_offsets give it \(given)")
    return Entry(name: name, type: type, shape: shape, range: offsets[0]..<offsets[1])
  }

  private static func sizes(_ value: StrictJSON?, _ field: String, of name: String) throws(Problem) -> [Int] {
    guard case .array(let items)? = value else {
      throw Problem(description: "tensor \(name): \(field) is not an array")
    }
    var sizes: [Int] = []
    for item in items {
      guard case .integer(let size) = item, size >= 0 else {
        let problem = "tensor \(name): \(field) holds something other than integers from 0 to 2⁶³ − 1"
        throw Problem(description: problem)
      }
      sizes.append(size)
    }
    return sizes
  }

  private static func checkTiling(_ entries: [Entry], _ dataSize: Int) throws(Problem) {
    var (end, last) = (0, "the header")
    for entry in entries {
      let (name, range) = (entry.name, entry.range)
      try require(range.lowerBound >= end, "the bytes of tensor \(name) overlap those of \(last)")
      try require(
        range.lowerBound == end, "\(range.lowerBound - end) bytes between \(last) and \(name) belong to no tensor")
      try require(
        range.upperBound <= dataSize,
        "tensor \(name) ends at byte \(range.upperBound) of the data, which has \(dataSize): the file is truncated")
      (end, last) = (range.upperBound, name)
    }
    try require(end == dataSize, "\(dataSize - end) bytes after \(last) belong to no tensor")
  }
}

/// The types of numbers in a safetensors file, with their names in the header.
public enum SafetensorsType: String, CaseIterable, Sendable {
  case float64 = "F64"
  case float32 = "F32"
  case float16 = "F16"
  case bfloat16 = "BF16"
  case int64 = "I64"
  case int32 = "I32"
  case int16 = "I16"
  case int8 = "I8"
  case uint8 = "U8"
  case bool = "BOOL"

  /// The size of a number in bytes.
  public var size: Int {
    switch self {
    case .float64, .int64: 8
    case .float32, .int32: 4
    case .float16, .bfloat16, .int16: 2
    case .int8, .uint8, .bool: 1
    }
  }

  public var isFloatingPoint: Bool { [.float64, .float32, .float16, .bfloat16].contains(self) }
}
