/// What a pax header says of the member behind it: lines of a length, a key and a value, `18 path=longer.jpg`.
struct PaxRecords {
  private(set) var values: [String: [UInt8]] = [:]

  struct Problem: Error {
    let reason: String
  }

  init() {}

  init(_ bytes: [UInt8]) throws(Problem) {
    var at = 0
    while at < bytes.count {
      let digits = bytes[at...].prefix { (0x30...0x39).contains($0) }
      guard (1...9).contains(digits.count), let count = Int(String(decoding: digits, as: UTF8.self)),
        count <= bytes.count - at, digits.endIndex < at + count, bytes[digits.endIndex] == 0x20,
        bytes[at + count - 1] == 0x0A
      else { throw Problem(reason: "its pax header is damaged at byte \(at)") }
      let record = bytes[(digits.endIndex + 1)..<(at + count - 1)]
      guard let sign = record.firstIndex(of: UInt8(ascii: "=")), sign > record.startIndex else {
        throw Problem(reason: "its pax header has a record without a key at byte \(at)")
      }
      values[String(decoding: record[..<sign], as: UTF8.self)] = Array(record[(sign + 1)...])
      at += count
    }
  }

  /// Takes over what `other` says; an empty value takes a record back.
  mutating func merge(_ other: PaxRecords) { values.merge(other.values) { $1 } }

  /// The member's name, where it is given here. A sparse file has one of its own, beside one that GNU tar made up.
  var path: [UInt8]? { (values["GNU.sparse.name"] ?? values["path"]).flatMap { $0.isEmpty ? nil : $0 } }

  /// The member's bytes, where they are given here.
  func size() throws(Problem) -> Int? {
    guard let digits = values["size"], !digits.isEmpty else { return nil }
    guard digits.allSatisfy({ (0x30...0x39).contains($0) }), let size = Int(String(decoding: digits, as: UTF8.self))
    else { throw Problem(reason: "its pax header gives no size") }
    return size
  }

  /// Whether the member is a sparse file, whose bytes are a map and pieces.
  var isSparse: Bool { values.keys.contains { $0.hasPrefix("GNU.sparse.") } }
}
