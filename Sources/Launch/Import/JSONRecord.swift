import Dist
import Foundation
import Settings

/// An object of a JSON file that nobody vouches for: what is missing or of another type is said by name.
struct JSONRecord {
  /// What is wrong with a value.
  struct Reason: Error, Equatable {
    let words: String
    init(_ words: String) { self.words = words }
  }

  private let members: [StrictJSON.Member]

  /// Nil where the value is no object.
  init?(_ value: StrictJSON) {
    guard case .object(let members) = value else { return nil }
    self.members = members
  }

  /// The object that a file holds.
  static func document(_ path: String) throws -> JSONRecord {
    let file = try OpenFile.reading(path)
    let bytes = try file.read(try file.size(), of: UInt8.self, at: 0)
    let value: StrictJSON
    do throws(StrictJSON.Problem) { value = try StrictJSON.parse(bytes) } catch {
      throw ImportError(path, "is not sound JSON: \(error)")
    }
    guard let record = JSONRecord(value) else {
      throw ImportError(path, "expected an object at the top, found \(value.kind)")
    }
    return record
  }

  /// The keys, for messages.
  var keys: String { members.isEmpty ? "none" : members.prefix(8).map { "\"\($0.key)\"" }.joined(separator: ", ") }

  func has(_ key: String) -> Bool { value(key) != nil }

  func value(_ key: String) -> StrictJSON? { members.first { $0.key == key }?.value }

  func string(_ key: String) throws(Reason) -> String {
    let value = try required(key)
    guard case .string(let text) = value else { throw wrong(key, "a string", value) }
    return text
  }

  /// A string that may be absent.
  func optionalString(_ key: String) throws(Reason) -> String? { has(key) ? try string(key) : nil }

  func integer(_ key: String) throws(Reason) -> Int {
    let value = try required(key)
    guard case .integer(let number) = value else { throw wrong(key, "a whole number", value) }
    return number
  }

  func array(_ key: String) throws(Reason) -> [StrictJSON] {
    let value = try required(key)
    guard case .array(let values) = value else { throw wrong(key, "an array", value) }
    return values
  }

  private func required(_ key: String) throws(Reason) -> StrictJSON {
    guard let value = value(key) else { throw Reason("has no \"\(key)\"") }
    return value
  }

  private func wrong(_ key: String, _ expected: String, _ value: StrictJSON) -> Reason {
    Reason("\"\(key)\": expected \(expected), found \(value.kind)")
  }
}

extension [StrictJSON] {
  /// The objects of an array, each with its place in it; what is no object goes to `otherwise`.
  func records(_ name: String, otherwise: (_ place: String, _ reason: String) throws -> Void) rethrows -> [(
    place: String, record: JSONRecord
  )] {
    var records: [(place: String, record: JSONRecord)] = []
    for (index, value) in enumerated() {
      let place = "\(name)[\(index)]"
      guard let record = JSONRecord(value) else {
        try otherwise(place, "expected an object, found \(value.kind)")
        continue
      }
      records.append((place, record))
    }
    return records
  }
}
