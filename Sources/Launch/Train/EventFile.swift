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
