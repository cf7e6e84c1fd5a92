import Foundation

/// As much of protobuf's wire format as events need.
struct Protobuf {
  private(set) var bytes = Data()

  static func event(time: Date, step: Int, _ body: (inout Protobuf) -> Void) -> Data {
    var event = Protobuf()
    event.key(1, 1)
    event.bytes += fixed(time.timeIntervalSince1970.bitPattern)
    event.key(2, 0)
    event.varint(UInt64(step))
    body(&event)
    return event.bytes
  }

  /// Little-endian.
  static func fixed(_ value: some FixedWidthInteger) -> Data {
    Data((0..<value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) })
  }

  mutating func field(_ number: UInt64, _ text: String) { field(number, Data(text.utf8)) }

  mutating func field(_ number: UInt64, _ value: Float) {
    key(number, 5)
    bytes += Self.fixed(value.bitPattern)
  }

  mutating func message(_ number: UInt64, _ body: (inout Protobuf) -> Void) {
    var inner = Protobuf()
    body(&inner)
    field(number, inner.bytes)
  }

  private mutating func field(_ number: UInt64, _ data: Data) {
    key(number, 2)
    varint(UInt64(data.count))
    bytes += data
  }

  private mutating func key(_ number: UInt64, _ type: UInt64) { varint(number << 3 | type) }

  private mutating func varint(_ value: UInt64) {
    var rest = value
    while rest > 0x7F {
      bytes.append(UInt8(rest & 0x7F) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }
}
