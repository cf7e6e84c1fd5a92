import Dist
import Foundation
import TestSupport
import Testing

/// Archives that the program tar writes, in all its formats.
@Suite struct TarReaderTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  func tar(_ arguments: [String]) async throws -> String {
    let path = folder.path("t.tar")
    let run = try await MPIRun.execute(["tar", "-C", folder.path("in"), "-cf", path] + arguments)
    #expect(run.status == 0, "\(run)")
    return path
  }

  func members(_ path: String) throws -> [TarMember] {
    var reader = try TarReader(path)
    var members: [TarMember] = []
    while let member = try reader.next() { members.append(member) }
    return members
  }

  /// Returns the names and bytes of all members.
  func contents(_ path: String) throws -> [String: [UInt8]] {
    var reader = try TarReader(path)
    return Dictionary(
      uniqueKeysWithValues: try members(path).map { ($0.name, try reader.contents(of: $0, limit: 1 << 30)) })
  }

  /// Writes files with sizes around multiples of a block.
  func write(_ names: [String]) throws -> [String: [UInt8]] {
    var files: [String: [UInt8]] = [:]
    for (index, name) in names.enumerated() {
      let bytes = (0..<[0, 1, 511, 512, 513, 20_000, 70_001][index % 7]).map {
        UInt8(truncatingIfNeeded: $0 * 31 + index)
      }
      try folder.write("in/" + name, bytes)
      files[name] = bytes
    }
    return files
  }

  static let short = (0..<9).map { "d/\($0).jpg" }
  /// A name that fits ustar's prefix and name, but not v7's name.
  static let middle = "\(String(repeating: "p", count: 90))/\(String(repeating: "n", count: 90)).jpg"
  /// A name that fits neither.
  static let long = "\(String(repeating: "q", count: 120))/\(String(repeating: "m", count: 200)) é 🦊.txt"

  static let forms: [(String, [String])] = [
    ("v7", short), ("oldgnu", short + [middle, long]), ("gnu", short + [middle, long]), ("ustar", short + [middle]),
    ("pax", short + [middle, long]), ("posix", short + [middle, long]),
  ]

  @Test(arguments: forms)
  func everyForm(_ format: String, _ names: [String]) async throws {
    let files = try write(names)
    let path = try await tar(["--format", format, "."])
    let found = try contents(path)
    #expect(Set(found.keys) == Set(files.keys.map { "./" + $0 }), "\(found.keys.sorted())")
    for (name, bytes) in files { #expect(found["./" + name] == bytes, "\(name)") }
    #expect(try members(path).allSatisfy { $0.fault == nil })
  }

  @Test func timesAndOwnersInPaxHeadersAreNoNames() async throws {
    let files = try write(["a.jpg"])
    let path = try await tar([
      "--format", "pax", "--pax-option", "globexthdr.name=g,comment=x,foo:=bar", "--xattrs", "a.jpg",
    ])
    #expect(try contents(path) == files)
  }

  @Test func linksSparseFilesAndDevicesAreNamed() async throws {
    _ = try write(["a.jpg", "b.jpg"])
    let manager = FileManager.default
    try manager.createSymbolicLink(atPath: folder.path("in/s.jpg"), withDestinationPath: "b.jpg")
    try manager.linkItem(atPath: folder.path("in/b.jpg"), toPath: folder.path("in/c.jpg"))
    #expect(mkfifo(folder.path("in/p.jpg"), 0o600) == 0)
    let handle = try #require(FileHandle(forWritingAtPath: try folder.write("in/z.jpg", [])))
    // Many pieces, so that the map of the old format continues in more blocks.
    for piece in 0..<40 {
      try handle.seek(toOffset: UInt64(piece * 65_536))
      try handle.write(contentsOf: Data([1, 2, 3]))
    }
    try handle.close()
    for form in [["--format", "gnu"], ["--format", "pax"], ["--format", "pax", "--sparse-version", "0.0"]] {
      let path = try await tar(
        form + ["--sparse", "--hole-detection", "raw", "b.jpg", "c.jpg", "s.jpg", "p.jpg", "z.jpg", "a.jpg"])
      let found = try members(path)
      #expect(
        found.map(\.name) == ["b.jpg", "c.jpg", "s.jpg", "p.jpg", "z.jpg", "a.jpg"])
      #expect(found.map { $0.fault == nil } == [true, false, false, false, false, true], "\(form) \(found)")
      #expect(found[1].fault?.contains("is a link") == true && found[2].fault?.contains("is a link") == true)
      #expect(found[3].fault?.contains("pipe") == true)
      #expect(found[4].fault?.contains("--sparse") == true)
    }
  }

  @Test func aLinkWithBytesOfPax() throws {
    let pax = TarBytes.member("h", TarBytes.record("size", "3").utf8, type: "x")
    let bytes = pax + TarBytes.header("a.jpg", type: "1") + TarBytes.blocks([1, 2, 3]) + TarBytes.member("b.jpg", [9])
    let path = try folder.write("t.tar", bytes + TarBytes.end)
    #expect(try members(path).map(\.name) == ["a.jpg", "b.jpg"])
    // A size in a header that no bytes follow.
    let plain = TarBytes.header("a.jpg", size: 777, type: "1") + TarBytes.member("b.jpg", [9]) + TarBytes.end
    #expect(try members(try folder.write("u.tar", plain)).map(\.bytes.count) == [0, 1])
  }

  @Test func numbersOfManyForms() throws {
    let binary: [UInt8] = [0x80] + [UInt8](repeating: 0, count: 10) + [3]
    let spaces = Array("          3 ".utf8)
    for field in [binary, spaces, Array("00000000003 ".utf8), Array("3\0".utf8)] {
      let bytes = TarBytes.header("a.jpg", sizeField: field) + TarBytes.blocks([1, 2, 3]) + TarBytes.end
      #expect(try contents(try folder.write("t.tar", bytes)) == ["a.jpg": [1, 2, 3]], "\(field)")
    }
  }

  @Test func paxSaysMoreThanTheHeader() throws {
    let records = TarBytes.record("path", "long/é.jpg") + TarBytes.record("size", "3") + TarBytes.record("mtime", "1.5")
    let global = TarBytes.member("g", TarBytes.record("comment", "x").utf8, type: "g")
    let bytes =
      global + TarBytes.member("h", records.utf8, type: "x") + TarBytes.header("short.jpg")
      + TarBytes.blocks([7, 8, 9])
      + TarBytes.member("next.jpg", [1])
    #expect(
      try contents(try folder.write("t.tar", bytes + TarBytes.end)) == ["long/é.jpg": [7, 8, 9], "next.jpg": [1]])
  }

  @Test func namesThatAreNotUTF8() throws {
    var header = TarBytes.header("aXb.jpg", size: 1)
    header[1] = 0xFF
    let path = try folder.write("t.tar", TarBytes.summed(header) + TarBytes.blocks([1]) + TarBytes.end)
    #expect(try members(path).map(\.fault) == ["has a name that is not UTF-8"])
  }
}
