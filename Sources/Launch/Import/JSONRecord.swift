import Dist
import Foundation

/// An object of an untrusted JSON file: an error names what is missing or of another type.
struct JSONRecord {
  private let members: [StrictJSON.Member]

  /// Returns nil if the value is not an object.
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
    guard let record = JSONRecord(value) else {
      throw UserError(path, "expected an object at the top, found \(value.kind)")
    }
    return record
  }

  /// The keys, for messages.
  var keys: String { members.isEmpty ? "none" : members.prefix(8).map { "\"\($0.key)\"" }.joined(separator: ", ") }

  func has(_ key: String) -> Bool { value(key) != nil }

  func value(_ key: String) -> StrictJSON? { members.first { $0.key == key }?.value }

  func string(_ key: String) throws(ImportReason) -> String {
    let value = try required(key)
    guard case .string(let text) = value else { throw wrong(key, "a string", value) }
    return text
  }

  /// Returns a string that may be absent.
  func optionalString(_ key: String) throws(ImportReason) -> String? { has(key) ? try string(key) : nil }

  func integer(_ key: String) throws(ImportReason) -> Int {
    let value = try required(key)
    guard case .integer(let number) = value else { throw wrong(key, "a whole number", value) }
    return number
  }

  func array(_ key: String) throws(ImportReason) -> [StrictJSON] {
    let value = try required(key)
    guard case .array(let values) = value else { throw wrong(key, "an array", value) }
    return values
  }

  private func required(_ key: String) throws(ImportReason) -> StrictJSON {
    guard let value = value(key) else { throw ImportReason("has no \"\(key)\"") }
    return value
  }

  private func wrong(_ key: String, _ expected: String, _ value: StrictJSON) -> ImportReason {
    ImportReason("\"\(key)\": expected \(expected), found \(value.kind)")
  }
}
