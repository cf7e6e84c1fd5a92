import Foundation
import TestSupport
import Testing

@testable import Dist

/// A file that is written under another name appears whole or not at all.
@Suite struct PublishTests {
  let folder = try! TemporaryFolder()

  private func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: folder.url.path) }

  @Test func whatOtherCodeCreatesIsPublishedWhole() throws {
    let path = try folder.write("made", "old".utf8)
    let count: Int = try Publish.creating(path) { temporary in
      #expect(temporary.hasPrefix(path) && temporary.hasSuffix(".partial"))
      try folder.write(URL(filePath: temporary).lastPathComponent, "new".utf8)
      #expect(try String(contentsOfFile: path, encoding: .utf8) == "old")
      return 3
    }
    #expect(try count == 3 && String(contentsOfFile: path, encoding: .utf8) == "new")
    #expect(try names() == ["made"])
  }

  /// Jobs that make the same file at the same time do not write into one another's.
  @Test func everyTemporaryPathIsNewAndBesideTheFile() {
    let paths = (0..<100).map { _ in Publish.temporaryPath(for: "folder/file.h5") }
    #expect(Set(paths).count == 100)
    #expect(paths.allSatisfy { $0.hasPrefix("folder/file.h5.") && $0.hasSuffix(".partial") })
    #expect(paths.allSatisfy { Publish.folder(of: $0) == "folder" })
  }

  @Test func aFailureLeavesTheOldFileAndNoOther() throws {
    let path = try folder.write("made", "old".utf8)
    #expect(throws: CocoaError.self) {
      try Publish.creating(path) { temporary in
        try folder.write(URL(filePath: temporary).lastPathComponent, "half".utf8)
        throw CocoaError(.fileWriteUnknown)
      }
    }
    #expect(try String(contentsOfFile: path, encoding: .utf8) == "old")
    // One who creates nothing is told of the file that is missing.
    #expect(throws: FileError.self) { try Publish.creating(path) { _ in } }
    #expect(try names() == ["made"])
  }

  @Test func aFolderIsNotReplaced() throws {
    try folder.write("taken/file", [])
    let error = #expect(throws: FileError.self) { try Publish.creating(folder.path("taken")) { _ in } }
    #expect(error?.reason.hasPrefix("it is not a file but ") == true, "\(String(describing: error))")
    #expect(try names() == ["taken"])
  }
}
