import Dist
import Foundation
import Tensor
import TestSupport
import Testing

/// Truncated, damaged and malicious tars: each is refused with the member's name and offset.
@Suite struct TarHostileTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// Reads a whole tar and returns the error that this must throw.
  func refusal(_ bytes: [UInt8]) throws -> String {
    let path = try folder.write("t.tar", bytes)
    let error = #expect(throws: TarError.self) {
      var reader = try TarReader(path)
      while let member = try reader.next() { _ = try reader.contents(of: member, limit: 1 << 20) }
    }
    #expect(error?.path == path && error?.status == .badData)
    return error?.description.replacing(path, with: "t.tar") ?? ""
  }

  static let whole = TarBytes.member("a.jpg", Array(repeating: 1, count: 700)) + TarBytes.member("b.jpg", [2])

  @Test func everyTruncationIsFound() throws {
    let whole = Self.whole + TarBytes.end
    // A missing second closing block loses nothing; anything shorter is refused.
    for count in stride(from: 0, to: Self.whole.count + 512, by: 37) {
      #expect(try !refusal(Array(whole.prefix(count))).isEmpty, "\(count)")
    }
    for count in [Self.whole.count + 512, whole.count, whole.count + 10_240] {
      let path = try folder.write(
        "t.tar", Array(whole.prefix(count)) + [UInt8](repeating: 0, count: max(0, count - whole.count)))
      var reader = try TarReader(path)
      #expect(try reader.next()?.name == "a.jpg")
      #expect(try reader.next()?.name == "b.jpg")
      #expect(try reader.next() == nil)
    }
    #expect(
      try refusal(Array(whole.prefix(800)))
        == "t.tar: “a.jpg”, byte 0: is truncated: 700 bytes should follow, but there are 288")
    #expect(try refusal(Self.whole).contains("byte 2560: is truncated or still being written: nothing follows"))
    #expect(try refusal(Self.whole + [0, 0]).contains("2 bytes follow where a header or a closing block should be"))
  }

  @Test func everyFlippedBitOfAHeaderIsFound() throws {
    let whole = Self.whole + TarBytes.end
    // In the checksum itself a zero may become a space, which has the same value.
    for bit in stride(from: 0, to: 512 * 8, by: 11) where !(148..<156).contains(bit / 8) {
      var bytes = whole
      bytes[1536 + bit / 8] ^= 1 << (bit % 8)
      let words = try refusal(bytes)
      #expect(words.hasPrefix("t.tar: byte 1536: is damaged"), "\(bit) \(words)")
    }
    var bytes = whole
    bytes[1536 + 153] ^= 1
    #expect(try refusal(bytes).contains("byte 1536: is damaged: the checksum says"))
  }

  @Test func filesThatAreNotTars() throws {
    #expect(try refusal([]) == "t.tar: byte 0: is empty; a tar ends with two blocks of zeros")
    #expect(try refusal([UInt8](repeating: 65, count: 2000)).contains("byte 0: is not a tar"))
    #expect(try refusal([65, 66]).contains("byte 0: is not a tar: it has 2 bytes"))
    for (magic, words) in [
      ([0x1F, 0x8B, 8] as [UInt8], "is compressed by gzip; unpack it with gunzip"),
      ([0x28, 0xB5, 0x2F, 0xFD], "is compressed by Zstandard; unpack it with unzstd"),
      (Array("PAR1\u{15}".utf8), "is a Parquet table; write it as CSV"),
      (Array("BZh91AY&SY".utf8), "is compressed by bzip2; unpack it with bunzip2"),
      (Array("PK\u{3}\u{4}".utf8), "is a zip archive; unpack it with unzip"),
    ] {
      #expect(try refusal(magic + [UInt8](repeating: 7, count: 600)).hasPrefix("t.tar: byte 0: \(words)"))
    }
    // A name of a member may begin with the letters of a signature.
    let path = try folder.write("t.tar", TarBytes.member("PAR1.jpg", [1]) + TarBytes.end)
    var reader = try TarReader(path)
    #expect(try reader.next()?.name == "PAR1.jpg")
  }

  @Test func aSecondArchiveIsNotLost() throws {
    let one = Self.whole + TarBytes.end
    #expect(try refusal(one + one).contains("byte 2560: ends here, but more follows at byte 3584"))
  }

  @Test func sizesThatAreNotThere() throws {
    let huge: [UInt8] = [0x80, 0, 0, 0, 0x7F] + [UInt8](repeating: 0xFF, count: 7)
    let over: [UInt8] = [0x80] + [UInt8](repeating: 0xFF, count: 11)
    let negative = [UInt8](repeating: 0xFF, count: 12)
    #expect(try refusal(TarBytes.header("a", sizeField: huge) + TarBytes.end).contains("“a”, byte 0: is truncated"))
    for field in [over, negative, Array("00000000009\0".utf8), Array("-0000000003\0".utf8), Array("0 0000000003".utf8)]
    {
      let words = try refusal(TarBytes.header("a", sizeField: field) + TarBytes.end)
      #expect(words.contains("has no valid size"), "\(field) \(words)")
    }
    for size in ["99999999999999999999", "-1", "1e3", "0x10"] {
      let pax = TarBytes.member("h", TarBytes.record("size", size).utf8, type: "x")
      #expect(
        try refusal(pax + TarBytes.header("a") + TarBytes.end).contains("its pax header has no valid size"), "\(size)")
    }
    let pax = TarBytes.member("h", TarBytes.record("size", "9223372036854775807").utf8, type: "x")
    #expect(try refusal(pax + TarBytes.header("a") + TarBytes.end).contains("“a”, byte 1024: is truncated"))
  }

  @Test(arguments: [
    "5 a=b", "99 a=b\n", "a=b\n", "6 a=b\n\n", "0 a=b\n", "7 path\n", "5 =b\n", "3 \n", "6a=bc\n",
    "999999999999999999999 a=b\n",
    " 6 a=b\n", "\n",
  ])
  func paxHeadersThatAreDamaged(_ text: String) throws {
    let pax = TarBytes.member("h", text.utf8, type: "x")
    #expect(try refusal(pax + TarBytes.header("a") + TarBytes.end).contains("its pax header"), "\(text)")
  }

  @Test func namesWithoutEnd() throws {
    for type in ["L", "K", "x", "g"] as [Character] {
      let words = try refusal(TarBytes.header("h", size: 1 << 30, type: type) + TarBytes.end)
      #expect(words.contains("a name or pax header of 1073741824 bytes, more than 1048576"), "\(words)")
      let short = try refusal(TarBytes.header("h", size: 4000, type: type) + TarBytes.end)
      #expect(short.contains("is truncated: 4000 bytes"), "\(short)")
    }
    // A long name with nothing after it.
    #expect(try refusal(TarBytes.member("h", Array("name".utf8), type: "L")).contains("nothing follows"))
  }

  @Test func aMapWithoutEnd() throws {
    var header = TarBytes.header("a", type: "S", magic: "ustar  \u{0}")
    header[482] = 1
    var block = [UInt8](repeating: 0, count: 512)
    block[504] = 1
    let words = try refusal(TarBytes.summed(header) + Array(repeating: block, count: 50).joined())
    #expect(words.contains("“a”, byte 0: is truncated"), "\(words)")
  }

  @Test func aMemberThatIsTooLarge() throws {
    let path = try folder.write("t.tar", Self.whole + TarBytes.end)
    var reader = try TarReader(path)
    let member = try #require(try reader.next())
    let error = #expect(throws: TarError.self) { try reader.contents(of: member, limit: 699) }
    #expect(error?.reason == "has 700 bytes, more than 699")
  }

  /// Noise in place of any block gives an error or an end, but no crash and no hang.
  @Test func noise() throws {
    let whole = Self.whole + TarBytes.end
    for seed in 0..<200 {
      var random = KeyedRandom(seed: 1, purpose: "noise", UInt64(seed))
      var bytes = whole
      let start = (seed % (whole.count / 512)) * 512
      for index in start..<start + 512 { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
      let path = try folder.write("n.tar", seed % 2 == 0 ? bytes : Array(bytes.reversed()))
      do {
        var reader = try TarReader(path)
        while let member = try reader.next() { _ = try reader.contents(of: member, limit: 1 << 20) }
      } catch is TarError {}
    }
  }
}
