import Dist
import TestSupport
import Testing

extension MPITests {
  /// Ranks notice that they see different files, and share the work on the same one.
  @Suite struct SameFilesTests {
    let folder = try! TemporaryFolder()

    @Test func filesAreComparedByTheirContents() async throws {
      let shared = try folder.write("shared", "cat\n".utf8)
      let copy = try folder.write("copy", "cat\n".utf8)
      let same = try await MPIRun.probe("same-file", [shared, copy, shared], ranks: 3)
      // Ranks 0 and 2 have one file, and rank 1 a copy of it.
      #expect(same.status == 0 && same.lines == ["0: 0", "1: 1", "2: 0"], "\(same)")

      let other = try folder.write("other", "dogs\n".utf8)
      let run = try await MPIRun.probe("same-file", [shared, other, copy], ranks: 3)
      #expect(run.status == 65, "\(run)")
      let sums = [SHA256.hash("dogs\n".utf8).hexadecimal, SHA256.hash("cat\n".utf8).hexadecimal]
      let message =
        #/kinship: rank 1 on (\S+) has a different list than rank 0 on (\S+): 5 bytes with the SHA-256 (\w+) on rank 1/#
      let found = run.errors.firstMatch(of: message)
      #expect(found?.1 == found?.2 && found.map { String($0.3) } == sums[0], "\(run)")
      #expect(run.errors.contains("4 bytes with the SHA-256 \(sums[1]) on rank 0; copy the same files"), "\(run)")
      #expect(run.errors.ranges(of: "has a different list").count == 1, "\(run)")
    }
  }
}
