import Model
import Tensor

/// Pictures with about the detail of photographs, made of nothing but a number: soft noise at every scale from the
/// whole picture down to two pixels, finer scales weaker. As JPEG of quality 85 they take 1 to 2 bits a pixel, as
/// photographs do.
enum MadePicture {
  static func make(width: Int, height: Int, number: Int) -> RGBImage {
    var values = [Float](repeating: 0, count: width * height * 3)
    var random = KeyedRandom(seed: 0, purpose: "made picture", UInt64(number), UInt64(width << 32 | height))
    var cell = max(width, height)
    var strength: Float = 70
    while cell >= 2 {
      add(&values, width, height, cell: cell, strength: strength, &random)
      cell /= 2
      strength *= 0.72
    }
    return RGBImage(width: width, height: height, rgb: values.map { UInt8(min(max($0 + 128, 0), 255)) })
  }

  /// Adds a grid of random heights, joined by straight lines: light that is common to the colours, and a third as much
  /// of each colour's own.
  private static func add(
    _ values: inout [Float], _ width: Int, _ height: Int, cell: Int, strength: Float, _ random: inout KeyedRandom
  ) {
    let (columns, rows) = (width / cell + 2, height / cell + 2)
    var grid = [Float](repeating: 0, count: columns * rows * 3)
    for point in 0..<columns * rows {
      let light = Float(random.uniform(-1, 1))
      for color in 0..<3 { grid[point * 3 + color] = strength * (light + Float(random.uniform(-1, 1)) / 3) }
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
