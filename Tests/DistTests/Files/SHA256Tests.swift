import Dist
import Foundation
import TestSupport
import Testing

@Suite struct SHA256Tests {
  /// The examples of FIPS 180-4, and the empty message.
  @Test(arguments: [
    ("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    ("a", 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
  ])
  func standard(_ piece: String, _ times: Int, _ expected: String) {
    let text = String(repeating: piece, count: times)
    let digest = SHA256.hash(text.utf8)
    #expect(digest.hexadecimal == expected)
    #expect(digest.bytes.count == SHA256.byteCount)
    // A lazy collection has no storage, so the hasher has to copy its bytes.
    #expect(SHA256.hash(text.utf8.lazy.map { $0 }) == digest)
  }

  /// Returns bytes without a pattern, so that any shift or gap changes the digest.
  private func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 11) }
  }

  /// Pieces that are shorter than, as long as and longer than a block of 64 bytes; some end within a block.
  @Test(arguments: [1, 3, 55, 63, 64, 65, 127, 1021, 9973])
  func piecesAreAsGoodAsTheWhole(_ size: Int) {
    let bytes = bytes(10_007)
    let data = Data(bytes)
    let expected = SHA256.hash(bytes)
    var slices = SHA256()
    var dataSlices = SHA256()
    var buffers = SHA256()
    for start in stride(from: 0, to: bytes.count, by: size) {
      let piece = start..<min(start + size, bytes.count)
      slices.update(bytes[piece])
      dataSlices.update(data[piece])
      bytes.withUnsafeBytes { buffers.update(UnsafeRawBufferPointer(rebasing: $0[piece])) }
      buffers.update([])
      buffers.update(UnsafeRawBufferPointer(start: nil, count: 0))
    }
    let found = [slices.finalize(), dataSlices.finalize(), buffers.finalize()]
    #expect(found == [expected, expected, expected])
  }

  /// Hashers that are updated in turns do not affect each other, and finishing one leaves the other intact.
  @Test func hashersShareNothing() {
    var one = SHA256()
    var other = SHA256()
    one.update("ab".utf8)
    other.update("x".utf8)
    one.update("c".utf8)
    let first = one.finalize()
    other.update("yz".utf8)
    let second = other.finalize()
    #expect(first == SHA256.hash("abc".utf8))
    #expect(second == SHA256.hash("xyz".utf8))
    #expect(first != second)
  }

  /// The program `sha256sum` is an independent implementation, with which users check files.
  @Test func sha256sumAgrees() async throws {
    let folder = try TemporaryFolder()
    let bytes = bytes(1_234_567)
    let run = try await MPIRun.execute(["sha256sum", try folder.write("odd.bin", bytes)])
    try #require(run.status == 0, "\(run)")
    #expect(run.output.prefix(64) == SHA256.hash(bytes).hexadecimal)
  }
}
