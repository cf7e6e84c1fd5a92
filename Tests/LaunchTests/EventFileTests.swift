import Foundation
import TestSupport
import Testing

@testable import Launch
@testable import Model

/// Reads event files for TensorBoard back with an independent reader of lengths, checksums and fields.
@Suite struct EventFileTests {
  struct Event: Equatable {
    var time = 0.0
    var step: UInt64 = 0
    var version: String?
    var scalars: [String: Float] = [:]
  }

  struct Malformed: Error {}

  /// The events of a file, in order.
  static func events(_ url: URL) throws -> [Event] {
    var rest = [UInt8](try Data(contentsOf: url))[...]
    func take(_ count: Int) throws -> [UInt8] {
      guard rest.count >= count else { throw Malformed() }
      defer { rest = rest.dropFirst(count) }
      return Array(rest.prefix(count))
    }
    var events: [Event] = []
    while !rest.isEmpty {
      let length = try take(8)
      guard try number(take(4)) == UInt64(CRC32C.masked(Data(length))) else { throw Malformed() }
      let bytes = try take(Int(number(length)))
      guard try number(take(4)) == UInt64(CRC32C.masked(Data(bytes))) else { throw Malformed() }
      events.append(try event(bytes))
    }
    return events
  }

  private static func number(_ bytes: some Collection<UInt8>) -> UInt64 {
    bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  private enum Field {
    case number(UInt64)
    case bytes([UInt8])
  }

  private static func fields(_ bytes: [UInt8]) throws -> [(UInt64, Field)] {
    var rest = bytes[...]
    func varint() throws -> UInt64 {
      var (value, shift): (UInt64, UInt64) = (0, 0)
      while let byte = rest.popFirst() {
        value |= UInt64(byte & 0x7F) << shift
        if byte & 0x80 == 0 { return value }
        shift += 7
      }
      throw Malformed()
    }
    var found: [(UInt64, Field)] = []
    while !rest.isEmpty {
      let key = try varint()
      let count: Int
      switch key & 7 {
      case 0:
        found.append((key >> 3, .number(try varint())))
        continue
      case 1: count = 8
      case 5: count = 4
      case 2: count = Int(try varint())
      default: throw Malformed()
      }
      guard rest.count >= count else { throw Malformed() }
      let bytes = Array(rest.prefix(count))
      rest = rest.dropFirst(count)
      found.append((key >> 3, key & 7 == 2 ? .bytes(bytes) : .number(number(bytes))))
    }
    return found
  }

  private static func event(_ bytes: [UInt8]) throws -> Event {
    var event = Event()
    for field in try fields(bytes) {
      switch field {
      case (1, .number(let bits)): event.time = Double(bitPattern: bits)
      case (2, .number(let step)): event.step = step
      case (3, .bytes(let text)): event.version = String(decoding: text, as: UTF8.self)
      case (5, .bytes(let summary)):
        for case (1, .bytes(let value)) in try fields(summary) {
          var (tag, scalar) = ("", Float.nan)
          for part in try fields(value) {
            switch part {
            case (1, .bytes(let text)): tag = String(decoding: text, as: UTF8.self)
            case (2, .number(let bits)): scalar = Float(bitPattern: UInt32(bits))
            default: throw Malformed()
            }
          }
          event.scalars[tag] = scalar
        }
      default: throw Malformed()
      }
    }
    return event
  }

  /// The expected values are the check value of CRC-32C's definition and one of RFC 3720.
  @Test func checksums() {
    #expect(CRC32C.checksum(Data("123456789".utf8)) == 0xE306_9283)
    #expect(CRC32C.checksum(Data(repeating: 0, count: 32)) == 0x8A91_36AA)
    #expect(CRC32C.checksum(Data()) == 0)
  }

  @Test func whatIsWrittenIsRead() throws {
    let folder = try TemporaryFolder()
    let time = Date(timeIntervalSince1970: 1_700_000_000.5)
    for _ in 0..<2 {
      let file = try EventFile(in: folder.url, host: "node-7", time: time)
      try file.write([("loss", 1.5), ("term/clip", -.infinity)], step: 300, time: time)
      try file.write([], step: 1 << 40, time: time)
    }
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.url.path).sorted()
    #expect(names == ["events.out.tfevents.1700000000.node-7", "events.out.tfevents.1700000000.node-7.1"])
    for name in names {
      #expect(
        try Self.events(folder.url.appending(path: name)) == [
          Event(time: 1_700_000_000.5, version: "brain.Event:2"),
          Event(time: 1_700_000_000.5, step: 300, scalars: ["loss": 1.5, "term/clip": -.infinity]),
          Event(time: 1_700_000_000.5, step: 1 << 40),
        ])
    }
  }

  /// A run writes the figures of its steps and of its evaluations.
  @Test func aRunsFigures() throws {
    let folder = try TemporaryFolder()
    let log = try RunLog(
      file: nil, console: nil, events: EventFile(in: folder.url, host: "a"), every: 2,
      start: .init(step: 0, ranks: 1, changes: []), maximum: { _ in })
    for step in 1...4 {
      var report = RunLogTests.report(step, losses: [Double(5 - step), 0.5])
      if step == 4 { report.outcome.report.gradients = [.init(name: "clip", norm: 0.25)] }
      try log.record(report)
    }
    try log.record(evaluation: "retrieval", at: 4, [("image to text R@1", 0.25)])
    let name = try #require(try FileManager.default.contentsOfDirectory(atPath: folder.url.path).first)
    let events = try Self.events(folder.url.appending(path: name))
    #expect(events.map(\.step) == [0, 2, 4, 4])
    #expect(events[1].scalars["loss"] == 3.5 && events[1].scalars["term/clip"] == 3)
    #expect(events[1].scalars["term gradient/clip"] == nil && events[2].scalars["term gradient/clip"] == 0.25)
    #expect(events[2].scalars["term/affinity"] == 0.5 && events[2].scalars["optimizer/gradient norm"] == 1.23456)
    #expect(events[3].scalars == ["retrieval/image to text R@1": 0.25])
  }
}
