internal import Foundation

/// Reads the keys of a JSON object one by one, and then refuses those that were not read.
struct KeyReader {
  private let object: [String: Any]
  let path: String
  /// The keys that were read, or that may be there without being read.
  var known: Set<String> = []
  init(_ object: [String: Any], path: String) { (self.object, self.path) = (object, path) }

  mutating func section(_ key: String) throws -> [String: Any] {
    known.insert(key)
    guard let value = object[key] as? [String: Any] else {
      throw ConfigError("the model config has no object \(path)\(key)")
    }
    return value
  }

  /// Returns what `read` makes of a key's value; nil if the key is missing.
  mutating func value<Value>(_ key: String, _ wanted: String, _ read: (Any) -> Value?) throws -> Value? {
    known.insert(key)
    guard let found = object[key] else { return nil }
    guard let value = read(found) else { throw wrong(key, found, wanted) }
    return value
  }

  private func wrong(_ key: String, _ found: Any, _ wanted: String) -> ConfigError {
    var shown = "\(found)"
    if let text = found as? String, text.isEmpty || Double(text) != nil {
      shown = "the text “\(text)”"
    } else if let number = found as? NSNumber, number.isBoolean {
      shown = "\(number.boolValue)"
    } else if JSONSerialization.isValidJSONObject(found),
      let json = try? JSONSerialization.data(withJSONObject: found, options: [.sortedKeys, .withoutEscapingSlashes])
    {
      shown = String(decoding: json, as: UTF8.self)
    }
    return ConfigError("\(path)\(key) is \(shown), and \(wanted) is wanted")
  }

  mutating func integer(_ key: String, default missing: Int? = nil) throws -> Int {
    let number = try number(key, default: missing.map(Double.init))
    guard let whole = Int(exactly: number) else { throw wrong(key, number, "a whole number") }
    return whole
  }

  mutating func number(_ key: String, default missing: Double? = nil) throws -> Double {
    if let flag = object[key] as? NSNumber, flag.isBoolean { throw wrong(key, flag.boolValue, "a number") }
    let found = try value(key, "a number") { ($0 as? NSNumber)?.doubleValue }
    guard let number = found ?? missing else { throw ConfigError("the model config has no \(path)\(key)") }
    return number
  }

  /// Returns a number; nil if the key is missing or null.
  mutating func optionalNumber(_ key: String) throws -> Double? {
    known.insert(key)
    guard let value = object[key], !(value is NSNull) else { return nil }
    return try number(key)
  }

  mutating func string(_ key: String, default missing: String) throws -> String {
    try value(key, "a text") { $0 as? String } ?? missing
  }

  mutating func flag(_ key: String, default missing: Bool) throws -> Bool {
    try value(key, "true or false") { ($0 as? NSNumber).flatMap { $0.isBoolean ? $0.boolValue : nil } } ?? missing
  }

  /// Returns a list of whole numbers; nil if the value is no list.
  mutating func list(_ key: String) throws -> [Int]? {
    known.insert(key)
    return try (object[key] as? [Any])?.map { item in
      guard let number = item as? NSNumber, !number.isBoolean, let whole = Int(exactly: number.doubleValue) else {
        throw ConfigError("\(path)\(key) has \(item) in it, and whole numbers are wanted")
      }
      return whole
    }
  }

  mutating func blockSizes() throws -> BlockSizes? {
    known.insert("blocks")
    guard object["blocks"] != nil else { return nil }
    var reader = KeyReader(try section("blocks"), path: "\(path)blocks.")
    let sizes = BlockSizes(
      headWidth: try reader.integer("head_width"), heads: try reader.integers("heads"),
      hidden: try reader.integers("hidden"), fullWidth: try reader.integer("full_width"),
      fullHeads: try reader.integer("full_heads"), fullHidden: try reader.integer("full_hidden"))
    try reader.finish()
    return sizes
  }

  private mutating func integers(_ key: String) throws -> [Int] {
    guard let list = try list(key) else { throw ConfigError("the model config has no list \(path)\(key)") }
    return list
  }

  func finish() throws {
    func names(_ keys: some Sequence<String>) -> String { keys.sorted().map { path + $0 }.joined(separator: ", ") }
    let unknown = object.keys.filter { !known.contains($0) }
    guard unknown.isEmpty else {
      throw ConfigError("unknown in the model config: \(names(unknown)); known here: \(names(known))")
    }
  }
}

extension NSNumber {
  /// True if the JSON value was `true` or `false`, which Foundation reads as numbers too.
  var isBoolean: Bool { unsafe objCType.pointee == CChar(bitPattern: UInt8(ascii: "c")) }
}
