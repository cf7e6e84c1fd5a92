import Dist

/// An object of an untrusted JSON file: an error names what is missing or of another type.
struct JSONRecord {
  private let members: [StrictJSON.Member]

  init?(_ value: StrictJSON) {
    guard case .object(let members) = value else { return nil }
    self.members = members
  }

  /// Reads the object that a file holds.
  static func document(_ path: String) throws -> JSONRecord {
    let file = try OpenFile.reading(path)
    let bytes = try file.read(try file.size(), of: UInt8.self, at: 0)
    let value: StrictJSON
    do throws(StrictJSON.Problem) { value = try StrictJSON.parse(bytes) } catch {
      throw UserError(path, "is not valid JSON: \(error)")
    }
    if let record = JSONRecord(value) { return record }
    throw UserError(path, "expected an object at the top, found \(value.kind)")
  }

  var keys: String { members.isEmpty ? "none" : members.prefix(8).map { "\"\($0.key)\"" }.joined(separator: ", ") }
  func has(_ key: String) -> Bool { value(key) != nil }
  func value(_ key: String) -> StrictJSON? { members.first { $0.key == key }?.value }

  func string(_ key: String) throws(ImportReason) -> String {
    if case .string(let text) = try required(key) { return text }
    throw wrong(key, "a string")
  }

  func integer(_ key: String) throws(ImportReason) -> Int {
    switch try required(key) {
    case .integer(let number): return number
    // pandas writes 2.0 if an entry of the column is missing.
    case .number(let text): if let number = Int(SampleLabel.plain(text)) { return number }
    default: break
    }
    throw wrong(key, "a whole number")
  }

  func array(_ key: String) throws(ImportReason) -> [StrictJSON] {
    if case .array(let values) = try required(key) { return values }
    throw wrong(key, "an array")
  }

  private func required(_ key: String) throws(ImportReason) -> StrictJSON {
    if let value = value(key) { return value }
    throw ImportReason("has no \"\(key)\"")
  }

  private func wrong(_ key: String, _ expected: String) -> ImportReason {
    ImportReason("\"\(key)\": expected \(expected), found \(value(key)?.kind ?? "nothing")")
  }
}
