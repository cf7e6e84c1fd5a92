/// A text as an argument of a test. The log shows the arguments of each case, and of a long text only the beginning and
/// the length.
public struct LongText: Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
  public let string: String

  public init(_ string: String) { self.string = string }

  public init(stringLiteral string: String) { self.string = string }

  /// The text in quotes and with escapes, whole up to 1000 bytes.
  public var description: String {
    string.utf8.count <= 1000
      ? string.debugDescription : "\(String(string.prefix(20)).debugDescription)…, \(string.utf8.count) bytes"
  }
}

/// Bytes as an argument of a test, of which the log shows only the first and the number if they are many.
public struct LongBytes: Sendable, ExpressibleByArrayLiteral, CustomStringConvertible {
  public let bytes: [UInt8]

  public init(_ bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }

  public init(arrayLiteral bytes: UInt8...) { self.bytes = bytes }

  /// The bytes as numbers, all of them up to 100.
  public var description: String {
    bytes.count <= 100 ? "\(bytes)" : "\(Array(bytes.prefix(10)))…, \(bytes.count) bytes"
  }
}
