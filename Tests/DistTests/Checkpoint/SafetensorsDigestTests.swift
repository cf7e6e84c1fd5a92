import Dist
import Foundation
import Tensor
import TestSupport
import Testing

/// Our safetensors files carry a SHA-256 of themselves, which shows every change.
@Suite struct SafetensorsDigestTests {
  let folder = try! TemporaryFolder()
  private let numbers = Tensor<Float>(Shape(3), [1, -2, 0.5])

  /// Writes a file with numbers of two types; returns its path and bytes.
  private func written() throws -> (path: String, bytes: [UInt8]) {
    let path = folder.path("own.safetensors")
    try SafetensorsFile.write(
      [.init("numbers", numbers), .init("steps", integers: [7, -1], shape: Shape(2))],
      metadata: ["format": "pt", "kinship.sha256": "of another file"], to: path)
    return (path, Array(try Data(contentsOf: URL(filePath: path))))
  }

  /// The digest is that of the file with zeros in place of its digits, which any program can compute.
  @Test func isThatOfTheFileWithZeros() throws {
    let (path, bytes) = try written()
    let text = String(decoding: bytes, as: UTF8.self)
    let entry = #/"kinship\.sha256":"of the file with these digits as zeros: (\w{64})"/#
    let digits = String(try #require(text.firstMatch(of: entry)).1)
    let zeros = bytes.replacing(Array(digits.utf8), with: [UInt8](repeating: UInt8(ascii: "0"), count: 64))
    #expect(SHA256.hash(zeros).hexadecimal == digits)
    let file = try SafetensorsFile(path)
    #expect(try file.verify { _ in nil })
    #expect(file.metadata == ["format": "pt"], "the digest belongs to the file and not to its weights")
    #expect(try file.sha256 { $0 == "numbers" ? numbers : nil } == SHA256.hash(bytes).hexadecimal)
  }

  @Test func everyChangedBitIsNoticed() throws {
    let (_, bytes) = try written()
    for bit in 0..<8 * bytes.count {
      var altered = bytes
      altered[bit / 8] ^= 1 << UInt8(bit % 8)
      let path = try folder.write("altered.safetensors", altered)
      let error = #expect(throws: SafetensorsError.self, "bit \(bit % 8) of byte \(bit / 8)") {
        try SafetensorsFile(path).verify { _ in nil }
      }
      #expect(error?.status == .badData && error?.path == path)
    }
  }

  /// Weights that were read before are verified as they are in memory.
  @Test func whatWasReadIsVerified() throws {
    let file = try SafetensorsFile(written().path)
    #expect(try file.verify { $0 == "numbers" ? numbers : nil })
    let other = Tensor<Float>(Shape(3), [1, -2, 0.25])
    let checks: [() throws -> Void] = [
      { try file.verify { $0 == "numbers" ? other : nil } }, { _ = try file.sha256 { $0 == "numbers" ? other : nil } },
    ]
    for check in checks {
      let error = #expect(throws: SafetensorsError.self, performing: check)
      #expect(error?.reason.contains("it was altered or is damaged: its kinship.sha256 is ") == true)
    }
  }

  @Test func filesOfOtherProgramsHaveNone() throws {
    let header = #"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#
    let bytes = [UInt8(header.utf8.count), 0, 0, 0, 0, 0, 0, 0] + Array(header.utf8) + [5, 6]
    let file = try SafetensorsFile(folder.write("foreign.safetensors", bytes))
    #expect(try !file.verify { _ in nil })
    #expect(try file.sha256 { _ in nil } == SHA256.hash(bytes).hexadecimal)
  }

  /// Each of several files has a digest of its own.
  @Test func shardsAreVerified() throws {
    let (_, bytes) = try written()
    let index = try folder.write(
      "model.safetensors.index.json",
      #"{"weight_map": {"numbers": "own.safetensors", "steps": "own.safetensors"}}"#.utf8)
    #expect(try ShardedSafetensors(index).verify { _ in nil })
    try folder.write("own.safetensors", bytes.dropLast() + [bytes[bytes.count - 1] ^ 4])
    let error = #expect(throws: SafetensorsError.self) { try ShardedSafetensors(index).verify { _ in nil } }
    #expect(error?.path.hasSuffix("own.safetensors") == true)
  }
}
