import Dist
import Model

/// Pictures of one format and about one size, as files in memory.
struct PictureSet {
  let format: ImageFormat
  /// The longer side in pixels: of all of them, or that none exceeds.
  let side: Int
  var files: [[UInt8]] = []
  var pixels = 0

  var kibibytes: Double { Double(files.reduce(0) { $0 + $1.count }) / 1024 / Double(files.count) }

  /// Made pictures, a third wider than high.
  static func made(_ formats: [ImageFormat], sides: [Int], count: Int) throws -> [PictureSet] {
    var sets: [PictureSet] = []
    for side in sides {
      let pictures = (0..<count).map { MadePicture.make(width: side, height: max(side * 3 / 4, 1), number: $0) }
      for format in formats {
        var set = PictureSet(format: format, side: side)
        for picture in pictures { set.add(try picture.encoded(as: format), picture.width, picture.height) }
        sets.append(set)
      }
    }
    return sets
  }

  /// At most `count` pictures of a corpus, from all of it, by format and by the smallest power of two that no side
  /// exceeds.
  static func of(_ corpus: Corpus, count: Int) throws -> [PictureSet] {
    var sets: [PictureSet] = []
    let chosen = min(count, corpus.count)
    for number in 0..<chosen {
      let sample = number * corpus.count / chosen
      let bytes = try corpus.image(sample)
      let info: ImageInfo
      do { info = try ImageDecoder.probe(bytes) } catch {
        throw SampleError(corpus: corpus.name, key: corpus.key(sample), reason: error)
      }
      var side = 64
      while side < max(info.width, info.height) { side *= 2 }
      let place =
        sets.firstIndex { $0.format == info.format && $0.side == side }
        ?? {
          sets.append(PictureSet(format: info.format, side: side))
          return sets.count - 1
        }()
      sets[place].add(bytes, info.width, info.height)
    }
    return sets.sorted { ($0.side, $0.format.rawValue) < ($1.side, $1.format.rawValue) }
  }

  private mutating func add(_ file: [UInt8], _ width: Int, _ height: Int) {
    files.append(file)
    pixels += width * height
  }
}
