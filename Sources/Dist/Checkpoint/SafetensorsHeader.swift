/// The header of a safetensors file, checked against the file's size.
///
/// The file consists of an 8-byte little-endian length, that many bytes of JSON, and the numbers. The JSON maps each
/// name to a type, a shape and the range of its bytes. The ranges tile the rest of the file.
struct SafetensorsHeader: Sendable {
  struct Entry: Sendable {
    let name: String
    let type: SafetensorsType
    let shape: [Int]
    /// The range of its bytes, counted from the end of the header.
    let range: Range<Int>
  }

  struct Problem: Error, CustomStringConvertible {
    let reason: String
    var description: String { reason }
  }

  /// A limit on the header's bytes, far above those of any real model.
  static let longest = 100_000_000

  /// The tensors, in the order of their bytes.
  let entries: [Entry]
  let metadata: [String: String]

  /// Returns the length of the header in bytes, given the first eight bytes of the file and its size.
  static func length(_ prefix: [UInt8], fileSize: Int) throws(Problem) -> Int {
    guard prefix.count == 8 else { throw Problem(reason: "it has \(fileSize) bytes, too few for a header") }
    let length = prefix.reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    guard length <= longest else {
      throw Problem(reason: "its header claims \(length) bytes, more than the \(longest) allowed")
    }
    guard Int(length) <= fileSize - 8 else {
      throw Problem(reason: "its header claims \(length) bytes, the file has \(fileSize - 8) after the length")
    }
    return Int(length)
  }

  /// Parses the JSON of a header that `dataSize` bytes follow in the file.
  init(_ json: [UInt8], dataSize: Int) throws(Problem) {
    let document: StrictJSON
    do throws(StrictJSON.Problem) {
      document = try StrictJSON.parse(json)
    } catch { throw Problem(reason: "its header is not JSON as expected: \(error)") }
    guard case .object(let members) = document else {
      throw Problem(reason: "its header is \(document.kind), expected an object")
    }
    var entries: [Entry] = []
    var metadata: [String: String] = [:]
    for member in members {
      if member.key == "__metadata__" {
        metadata = try Self.metadata(member.value)
      } else {
        entries.append(try Self.entry(member.key, member.value))
      }
    }
    entries.sort { ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound) }
    try Self.checkTiling(entries, dataSize)
    self.entries = entries
    self.metadata = metadata
  }

  private static func metadata(_ value: StrictJSON) throws(Problem) -> [String: String] {
    guard case .object(let members) = value else {
      throw Problem(reason: "__metadata__ is \(value.kind), expected an object")
    }
    var metadata: [String: String] = [:]
    for member in members {
      guard case .string(let text) = member.value else {
        throw Problem(reason: "__metadata__ key \(member.key) is \(member.value.kind), expected a string")
      }
      metadata[member.key] = text
    }
    return metadata
  }

  private static func entry(_ name: String, _ value: StrictJSON) throws(Problem) -> Entry {
    guard case .object(let members) = value else {
      throw Problem(reason: "the entry of tensor \(name) is \(value.kind), expected an object")
    }
    var fields: [String: StrictJSON] = [:]
    for member in members { fields[member.key] = member.value }
    guard Set(fields.keys) == ["dtype", "shape", "data_offsets"] else {
      let found = fields.keys.sorted().joined(separator: ", ")
      throw Problem(reason: "tensor \(name) has the fields \(found); expected data_offsets, dtype, shape")
    }
    guard case .string(let typeName)? = fields["dtype"] else {
      throw Problem(reason: "tensor \(name): dtype is not a string")
    }
    guard let type = SafetensorsType(rawValue: typeName) else {
      let known = SafetensorsType.allCases.map(\.rawValue).joined(separator: ", ")
      throw Problem(reason: "tensor \(name) has dtype \(typeName); known are \(known)")
    }
    let shape = try sizes(fields["shape"], "shape", of: name)
    let offsets = try sizes(fields["data_offsets"], "data_offsets", of: name)
    guard offsets.count == 2, offsets[0] <= offsets[1] else {
      throw Problem(reason: "tensor \(name): data_offsets are \(offsets), expected a start and an end")
    }
    var bytes = type.size
    for size in shape {
      let (product, overflow) = bytes.multipliedReportingOverflow(by: size)
      guard !overflow else { throw Problem(reason: "tensor \(name): the shape \(shape) is too large") }
      bytes = product
    }
    guard bytes == offsets[1] - offsets[0] else {
      throw Problem(
        reason: "tensor \(name): \(typeName) of shape \(shape) takes \(bytes) bytes, data_offsets give it"
          + " \(offsets[1] - offsets[0])")
    }
    return Entry(name: name, type: type, shape: shape, range: offsets[0]..<offsets[1])
  }

  private static func sizes(_ value: StrictJSON?, _ field: String, of name: String) throws(Problem) -> [Int] {
    guard case .array(let items)? = value else { throw Problem(reason: "tensor \(name): \(field) is not an array") }
    var sizes: [Int] = []
    for item in items {
      guard case .integer(let size) = item, size >= 0 else {
        throw Problem(reason: "tensor \(name): \(field) holds something other than integers from 0 to 2⁶³ − 1")
      }
      sizes.append(size)
    }
    return sizes
  }

  /// Throws unless every byte of the data belongs to exactly one tensor.
  private static func checkTiling(_ entries: [Entry], _ dataSize: Int) throws(Problem) {
    var end = 0
    var last = "the header"
    for entry in entries {
      if entry.range.lowerBound < end {
        throw Problem(reason: "the bytes of tensor \(entry.name) overlap those of \(last)")
      }
      if entry.range.lowerBound > end {
        throw Problem(
          reason: "\(entry.range.lowerBound - end) bytes between \(last) and \(entry.name) belong to no tensor")
      }
      if entry.range.upperBound > dataSize {
        throw Problem(
          reason: "tensor \(entry.name) ends at byte \(entry.range.upperBound) of the data, which has \(dataSize):"
            + " the file is truncated")
      }
      end = entry.range.upperBound
      last = entry.name
    }
    guard end == dataSize else { throw Problem(reason: "\(dataSize - end) bytes after \(last) belong to no tensor") }
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

  public var isFloatingPoint: Bool {
    switch self {
    case .float64, .float32, .float16, .bfloat16: true
    case .int64, .int32, .int16, .int8, .uint8, .bool: false
    }
  }
}
