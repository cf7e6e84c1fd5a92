import Foundation

/// Scalars in the files that TensorBoard reads: one a start of a run, for it takes all of a folder together.
///
/// A file is a row of records: length (u64), its checksum, the bytes of a protobuf `Event`, their checksum. An event
/// has wall_time (field 1, double), step (2, varint), and file_version (3, string) or summary (5): repeated values (1)
/// of tag (1, string) and simple_value (2, float). Little-endian. (tensorflow/core/util/event.proto, summary.proto.)
final class EventFile {
  private let file: FileHandle

  /// Begins a file in a folder, named as TensorBoard wants it.
  init(in folder: URL, host: String, time: Date = .now) throws {
    let seconds = Int(time.timeIntervalSince1970)
    var url = folder.appending(path: "events.out.tfevents.\(seconds).\(host)")
    var number = 1
    // Two starts within a second.
    while FileManager.default.fileExists(atPath: url.path) {
      url = folder.appending(path: "events.out.tfevents.\(seconds).\(host).\(number)")
      number += 1
    }
    try Data().write(to: url)
    file = try FileHandle(forWritingTo: url)
    try write(Protobuf.event(time: time, step: 0) { $0.field(3, "brain.Event:2") })
  }

  deinit { try? file.close() }

  /// Scalars after a step. What is not a finite number is written as it is: TensorBoard shows it.
  func write(_ scalars: [(tag: String, value: Double)], step: Int, time: Date = .now) throws {
    try write(
      Protobuf.event(time: time, step: step) { event in
        event.message(5) { summary in
          for scalar in scalars {
            summary.message(1) { value in
              value.field(1, scalar.tag)
              value.field(2, Float(scalar.value))
            }
          }
        }
      })
  }

  private func write(_ event: Data) throws { try file.write(contentsOf: Self.record(event)) }

  /// A record around some bytes.
  static func record(_ bytes: Data) -> Data {
    let length = Protobuf.fixed(UInt64(bytes.count))
    return length + Protobuf.fixed(CRC32C.masked(length)) + bytes + Protobuf.fixed(CRC32C.masked(bytes))
  }
}

/// The checksum of these records: CRC-32C (Castagnoli), reflected.
enum CRC32C {
  private static let table: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { crc, _ in crc & 1 == 1 ? (crc >> 1) ^ 0x82F6_3B78 : crc >> 1 }
  }

  static func checksum(_ bytes: Data) -> UInt32 {
    ~bytes.reduce(~0) { crc, byte in table[Int((crc ^ UInt32(byte)) & 0xFF)] ^ (crc >> 8) }
  }

  /// Turned and shifted, since the checksum of bytes that hold their own checksum says little.
  static func masked(_ bytes: Data) -> UInt32 {
    let crc = checksum(bytes)
    return (crc >> 15 | crc << 17) &+ 0xA282_EAD8
  }
}

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
