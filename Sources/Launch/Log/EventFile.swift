import Foundation
import Tensor

/// Scalars in the format that TensorBoard reads. Each start of a run writes a file; TensorBoard shows all of a folder.
///
/// A file is a sequence of records: the length (u64), its checksum, the bytes of a protobuf `Event`, their checksum. An
/// event has wall_time (field 1, double), step (2, varint), and file_version (3, string) or summary (5), which holds
/// repeated values (1) of tag (1, string) and simple_value (2, float). All numbers are little-endian.
final class EventFile {
  private let path: String
  private let file: FileHandle

  /// Begins a file in a folder, under the name that TensorBoard expects.
  init(in folder: URL, host: String, time: Date = .now) throws {
    let name = "events.out.tfevents.\(Int(time.timeIntervalSince1970)).\(host)"
    var (url, number) = (folder.appending(path: name), 1)
    // The run may be started twice within a second.
    while FileManager.default.fileExists(atPath: url.path) {
      url = folder.appending(path: "\(name).\(number)")
      number += 1
    }
    path = url.relativePath
    file = try UserFiles.naming(path) {
      try Data().write(to: url)
      return try FileHandle(forWritingTo: url)
    }
    try write(Protobuf.event(time: time, step: 0) { $0.field(3, "brain.Event:2") })
  }

  deinit { try? file.close() }

  /// Writes scalars after a step. Values that are not finite are written as they are: TensorBoard shows them.
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

  private func write(_ event: Data) throws {
    try UserFiles.naming(path) { try file.write(contentsOf: Self.record(event)) }
  }

  static func record(_ bytes: Data) -> Data {
    let length = Protobuf.fixed(UInt64(bytes.count))
    return length + Protobuf.fixed(CRC32C.masked(length)) + bytes + Protobuf.fixed(CRC32C.masked(bytes))
  }
}

/// The part of protobuf's wire format that events need.
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

  static func fixed(_ value: some FixedWidthInteger) -> Data { Data(value.littleEndianBytes) }

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

/// The checksum of an event file's records: CRC-32C (Castagnoli), reflected.
enum CRC32C {
  private static let table: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { crc, _ in crc & 1 == 1 ? (crc >> 1) ^ 0x82F6_3B78 : crc >> 1 }
  }

  static func checksum(_ bytes: Data) -> UInt32 {
    ~bytes.reduce(~0) { crc, byte in table[Int((crc ^ UInt32(byte)) & 0xFF)] ^ (crc >> 8) }
  }

  /// The checksum rotated and shifted, because the checksum of bytes that contain their own checksum says little.
  static func masked(_ bytes: Data) -> UInt32 {
    let crc = checksum(bytes)
    return (crc >> 15 | crc << 17) &+ 0xA282_EAD8
  }
}
