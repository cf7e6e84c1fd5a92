import Model
import Tensor
import Testing

/// A golden image that is truncated or altered gives an error or an image of the announced size, and nothing else.
@Suite struct ImageHostileGoldenTests {
  let golden: ImageGoldenSet
  init() throws { golden = try ImageGoldenSet() }

  @Test func cut() throws {
    for name in golden.names {
      let bytes = try golden.file(name)
      for count in stride(from: 0, to: bytes.count, by: 97) {
        #expect(try outcome(Array(bytes[..<count]), exif: .apply) == nil, "\(name), \(count) of \(bytes.count) bytes")
      }
    }
  }

  @Test func altered() throws {
    var random = KeyedRandom(seed: 5, purpose: "altered pictures")
    for name in golden.names {
      let bytes = try golden.file(name)
      for round in 0..<300 {
        var changed = bytes
        // The first rounds alter the headers, which hold the sizes.
        let reach = round < 150 ? min(bytes.count, 700) : bytes.count
        for _ in 0...random.below(4) { changed[random.below(reach)] = UInt8(random.below(256)) }
        _ = try outcome(changed, exif: round % 2 == 0 ? .apply : .ignore)
      }
    }
  }

  /// Decodes with a limit of a million pixels. Returns the image, or nil if there was an error.
  private func outcome(_ bytes: [UInt8], exif: ExifHandling) throws -> RGBImage? {
    var decoder = ImageDecoder(alpha: .white, exif: exif, maxPixels: 1_000_000)
    do {
      let image = try decoder.decode(bytes)
      let info = try ImageDecoder.probe(bytes)
      #expect(image.width * image.height == info.width * info.height && image.rgb.count == info.width * info.height * 3)
      return image
    } catch {
      #expect(!"\(error)".isEmpty)
      return nil
    }
  }
}
