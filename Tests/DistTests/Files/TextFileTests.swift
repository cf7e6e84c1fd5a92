import Dist
import Foundation
import TestSupport
import Testing

@Suite struct TextFileTests {
  let folder = try! TemporaryFolder()

  @Test(arguments: [
    ("", ""), ("one\ntwo\n", "one\ntwo\n"), ("\u{FEFF}one\r\n", "one\r\n"), ("\u{FEFF}\u{FEFF}x", "\u{FEFF}x"),
    ("ä €\t😀", "ä €\t😀"),
  ])
  func aByteOrderMarkIsSkipped(_ written: String, _ text: String) throws {
    let found = try TextFile.read(folder.write("text", written.utf8))
    #expect(Array(found.utf8) == Array(text.utf8))
  }

  @Test(
    arguments: [
      ([0x61, 0xFF], "it is not UTF-8: byte 1 (line 1) is 0xff; save it as UTF-8"),
      ([0xEF, 0xBB, 0xBF, 0x0A, 0x80], "it is not UTF-8: byte 4 (line 2) is 0x80; save it as UTF-8"),
      ([0x0A, 0xC3, 0xA4, 0xE2, 0x82], "it is not UTF-8: byte 3 (line 2) is 0xe2; save it as UTF-8"),
      ([0xC0, 0x80], "it is not UTF-8: byte 0 (line 1) is 0xc0; save it as UTF-8"),
      ([0x61, 0xED, 0xA0, 0x80], "it is not UTF-8: byte 1 (line 1) is 0xed; save it as UTF-8"),
      ([0xFF, 0xFE, 0x61, 0], "it is UTF-16; save it as UTF-8"),
      ([0xFE, 0xFF, 0, 0x61], "it is UTF-16; save it as UTF-8"),
      ([0x61, 0x0A, 0], "it is not text: byte 2 (line 2) is zero; save it as UTF-8"),
    ] as [([UInt8], String)])
  func otherContentsAreRefused(_ bytes: [UInt8], _ reason: String) throws {
    let path = try folder.write("other", bytes)
    let error = #expect(throws: FileError.self) { try TextFile.read(path) }
    #expect(error?.description == "cannot read \(path): \(reason)" && error?.status == .badData)
  }

  @Test func onlyFilesOfALimitedSizeAreRead() throws {
    let path = try folder.write("five", "12345".utf8)
    #expect(try TextFile.read(path, limit: 5) == "12345")
    let long = #expect(throws: FileError.self) { try TextFile.read(path, limit: 4) }
    #expect(long?.reason == "expected a text of at most 4 bytes, found 5 bytes" && long?.status == .badData)
    for (path, found) in [
      (folder.url.path, "a folder"), (try folder.pipe("pipe"), "a pipe"), ("/dev/zero", "a device"),
    ] {
      let error = #expect(throws: FileError.self) { try TextFile.read(path) }
      #expect(error?.reason == "it is not a file but \(found)" && error?.status == .inputOutput)
    }
    for (path, found) in [(folder.url.path, "a folder"), (folder.path("pipe"), "a pipe"), ("/dev/full", "a device")] {
      let error = #expect(throws: FileError.self) { try OpenFile.requireNoOther(path) }
      #expect(error?.description == "cannot write \(path): it is not a file but \(found)")
    }
    let kept = #expect(throws: FileError.self) { try Publish.file(folder.path("pipe")) { _ in } }
    #expect(kept?.reason == "it is not a file but a pipe" && kept?.status == .inputOutput)
    for path in [path, folder.path("new")] { try OpenFile.requireNoOther(path) }
    let dash = #expect(throws: FileError.self) { try TextFile.read("-") }
    #expect(dash?.description == "cannot open -: No such file or directory")
  }

  @Test func pythonsNumbersBecomeStringsAndStringsStay() throws {
    let text = #"{"a": NaN, "b": [-Infinity, Infinity,1], "c": "NaN \" Infinity", "NaN": 2}"#
    let read = try TextFile.json(folder.write("a.json", text.utf8))
    #expect(read == #"{"a": "NaN", "b": ["-Infinity", "Infinity",1], "c": "NaN \" Infinity", "NaN": 2}"#)
  }
}
