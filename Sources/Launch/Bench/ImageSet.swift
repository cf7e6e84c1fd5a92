import Dist
import Model
import Tensor

/// Images of one format and about one size, as files in memory.
struct ImageSet {
  let format: ImageFormat
  /// The longer side of all images in pixels, or a length that no side exceeds.
  let side: Int
  var files: [[UInt8]] = []
  var pixels = 0

  var kibibytes: Double { Double(files.reduce(0) { $0 + $1.count }) / 1024 / Double(files.count) }

  /// Makes synthetic images, a third wider than high.
  static func made(_ formats: [ImageFormat], sides: [Int], count: Int) throws -> [ImageSet] {
    var sets: [ImageSet] = []
    for side in sides {
      let images = (0..<count).map { MadeImage.make(width: side, height: max(side * 3 / 4, 1), number: $0) }
      for format in formats {
        var set = ImageSet(format: format, side: side)
        for image in images { set.add(try image.encoded(as: format), pixels: image.width * image.height) }
        sets.append(set)
      }
    }
    return sets
  }

  /// Takes at most `count` images, spread evenly over a dataset, and groups them by format and by the smallest power of
  /// two that no side exceeds.
  static func of(_ dataset: Dataset, count: Int) throws -> [ImageSet] {
    var sets: [ImageSet] = []
    let chosen = min(count, dataset.count)
    for number in 0..<chosen {
      let sample = number * dataset.count / chosen
      let bytes = try dataset.image(sample)
      let info: ImageInfo
      do { info = try ImageDecoder.probe(bytes) } catch {
        throw SampleError(dataset: dataset.name, key: dataset.key(sample), reason: error)
      }
      var side = 64
      while side < max(info.width, info.height) { side *= 2 }
      let place =
        sets.firstIndex { $0.format == info.format && $0.side == side }
        ?? {
          sets.append(ImageSet(format: info.format, side: side))
          return sets.count - 1
        }()
      sets[place].add(bytes, pixels: info.width * info.height)
    }
    return sets.sorted { ($0.side, $0.format.rawValue) < ($1.side, $1.format.rawValue) }
  }

  private mutating func add(_ file: [UInt8], pixels: Int) {
    files.append(file)
    self.pixels += pixels
  }
}

/// Synthetic images with about the detail of photographs, each a function of a number: soft noise at every scale from
/// the whole image down to two pixels, weaker at finer scales. As JPEG of quality 85 they take 1 to 2 bits per pixel,
/// as photographs do.
enum MadeImage {
  static func make(width: Int, height: Int, number: Int) -> RGBImage {
    var values = [Float](repeating: 0, count: width * height * 3)
    var random = KeyedRandom(seed: 0, purpose: "made picture", UInt64(number), second: UInt64(width << 32 | height))
    var cell = max(width, height)
    var strength: Float = 70
    while cell >= 2 {
      add(&values, width: width, height: height, cell: cell, strength: strength, &random)
      cell /= 2
      strength *= 0.72
    }
    return RGBImage(width: width, height: height, rgb: values.map { UInt8(min(max($0 + 128, 0), 255)) })
  }

  /// Adds a grid of random values with linear interpolation between them: brightness that all colours share, and a
  /// third as much of each colour's own.
  private static func add(
    _ values: inout [Float], width: Int, height: Int, cell: Int, strength: Float, _ random: inout KeyedRandom
  ) {
    let (columns, rows) = (width / cell + 2, height / cell + 2)
    var grid = [Float](repeating: 0, count: columns * rows * 3)
    for point in 0..<columns * rows {
      let light = Float(random.uniform(from: -1, to: 1))
      for color in 0..<3 { grid[point * 3 + color] = strength * (light + Float(random.uniform(from: -1, to: 1)) / 3) }
    }
    for y in 0..<height {
      let (top, down) = (y / cell, Float(y % cell) / Float(cell))
      for x in 0..<width {
        let (left, right) = (x / cell, Float(x % cell) / Float(cell))
        let upper = (top * columns + left) * 3
        let lower = upper + columns * 3
        for color in 0..<3 {
          let above = grid[upper + color] * (1 - right) + grid[upper + 3 + color] * right
          let below = grid[lower + color] * (1 - right) + grid[lower + 3 + color] * right
          values[(y * width + x) * 3 + color] += above * (1 - down) + below * down
        }
      }
    }
  }
}
