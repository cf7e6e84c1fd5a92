import Foundation

/// Encodes baseline JPEG files for tests. All Huffman codes of a table have the same length, which any decoder can
/// read.
public enum JPEGImage {
  /// The number of pixels across and down that share one chroma sample. A gray image has no chroma.
  public enum Sampling: CaseIterable, Sendable {
    case full, half, quarter, gray

    var across: Int { self == .half || self == .quarter ? 2 : 1 }
    var down: Int { self == .quarter ? 2 : 1 }
  }

  /// Returns the file of an image.
  ///
  /// - Parameters:
  ///   - rgb: the pixels, [height, width, 3].
  ///   - coarseness: the rate at which quantization steps rise with the frequency; 0 is almost lossless.
  public static func encode(
    width: Int, height: Int, rgb: [UInt8], sampling: Sampling = .quarter, coarseness: Int = 2
  ) -> [UInt8] {
    let steps = (0..<64).map { 2 + coarseness * ($0 / 8 + $0 % 8) }
    let components = sampling == .gray ? 1 : 3
    var file: [UInt8] = [0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0] + zigzag.map { UInt8(min(steps[$0], 255)) }
    file += [0xFF, 0xC0, 0, UInt8(8 + 3 * components), 8, UInt8(height >> 8), UInt8(height & 255)]
    file += [UInt8(width >> 8), UInt8(width & 255), UInt8(components)]
    for component in 0..<components {
      file += [UInt8(component + 1), component == 0 ? UInt8(sampling.across << 4 | sampling.down) : 0x11, 0]
    }
    let (dc, ac) = ((0..<12).map { UInt8($0) }, acSymbols)
    file += [0xFF, 0xC4, 0, UInt8(19 + dc.count), 0] + lengths(4, dc.count) + dc
    file += [0xFF, 0xC4, 0, UInt8(19 + ac.count), 0x10] + lengths(8, ac.count) + ac
    file += [0xFF, 0xDA, 0, UInt8(6 + 2 * components), UInt8(components)]
    for component in 0..<components { file += [UInt8(component + 1), 0] }
    file += [0, 63, 0]
    var bits = Bits()
    let planes = planes(width, height, rgb, sampling)
    let (unitWidth, unitHeight) = (8 * sampling.across, 8 * sampling.down)
    var last = [Int](repeating: 0, count: components)
    for top in stride(from: 0, to: height, by: unitHeight) {
      for left in stride(from: 0, to: width, by: unitWidth) {
        for component in 0..<components {
          let (across, down) = component == 0 ? (sampling.across, sampling.down) : (1, 1)
          let (x, y) = component == 0 ? (left, top) : (left / sampling.across, top / sampling.down)
          for block in 0..<across * down {
            let values = planes[component].block(x + block % across * 8, y + block / across * 8)
            write(quantized(values, steps), &last[component], &bits)
          }
        }
      }
    }
    return file + bits.finished() + [0xFF, 0xD9]
  }

  /// The samples of one component, which are repeated beyond its edges.
  private struct Plane {
    let width: Int
    let height: Int
    let values: [Float]

    func block(_ left: Int, _ top: Int) -> [Float] {
      (0..<64).map { values[min(top + $0 / 8, height - 1) * width + min(left + $0 % 8, width - 1)] }
    }
  }

  private static func planes(_ width: Int, _ height: Int, _ rgb: [UInt8], _ sampling: Sampling) -> [Plane] {
    let weights: [[Float]] = [
      [0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312],
    ]
    return weights.enumerated().map { component, weight in
      let (across, down) = component == 0 ? (1, 1) : (sampling.across, sampling.down)
      let (w, h) = ((width + across - 1) / across, (height + down - 1) / down)
      var values = [Float](repeating: 0, count: w * h)
      for y in 0..<h {
        for x in 0..<w {
          var sum: Float = 0
          for sub in 0..<across * down {
            let (px, py) = (min(x * across + sub % across, width - 1), min(y * down + sub / across, height - 1))
            let at = (py * width + px) * 3
            sum += weight[0] * Float(rgb[at]) + weight[1] * Float(rgb[at + 1]) + weight[2] * Float(rgb[at + 2])
          }
          values[y * w + x] = sum / Float(across * down) - (component == 0 ? 128 : 0)
        }
      }
      return Plane(width: w, height: h, values: values)
    }
  }

  /// cos((2x + 1) u π / 16) c(u) / 2, [u, x].
  private static let basis: [Float] = (0..<64).map { index in
    let (u, x) = (Double(index / 8), Double(index % 8))
    return Float(cos((2 * x + 1) * u * .pi / 16) * (u == 0 ? 0.5.squareRoot() : 1) / 2)
  }

  private static func quantized(_ values: [Float], _ steps: [Int]) -> [Int] {
    var (rows, result) = ([Float](repeating: 0, count: 64), [Int](repeating: 0, count: 64))
    for y in 0..<8 {
      for u in 0..<8 {
        var sum: Float = 0
        for x in 0..<8 { sum += basis[u * 8 + x] * values[y * 8 + x] }
        rows[y * 8 + u] = sum
      }
    }
    for v in 0..<8 {
      for u in 0..<8 {
        var sum: Float = 0
        for y in 0..<8 { sum += basis[v * 8 + y] * rows[y * 8 + u] }
        result[v * 8 + u] = Int((sum / Float(steps[v * 8 + u])).rounded())
      }
    }
    return result
  }

  private static func write(_ block: [Int], _ last: inout Int, _ bits: inout Bits) {
    let difference = block[0] - last
    last = block[0]
    let size = Int.bitWidth - difference.magnitude.leadingZeroBitCount
    bits.append(size, 4)
    bits.append(value: difference, size)
    var run = 0
    for place in zigzag.dropFirst() {
      let value = block[place]
      guard value != 0 else {
        run += 1
        continue
      }
      while run > 15 {
        bits.append(acCodes[0xF0], 8)
        run -= 16
      }
      let size = Int.bitWidth - value.magnitude.leadingZeroBitCount
      bits.append(acCodes[run << 4 | size], 8)
      bits.append(value: value, size)
      run = 0
    }
    if run > 0 { bits.append(acCodes[0], 8) }
  }

  /// The symbols for the end of a block, for sixteen zeros, and for every run of zeros before a number of 1 to 10 bits.
  private static let acSymbols: [UInt8] =
    [0, 0xF0] + (0..<16).flatMap { run in (1...10).map { UInt8(run << 4 | $0) } }

  private static let acCodes: [Int] = {
    var codes = [Int](repeating: 0, count: 256)
    for (code, symbol) in acSymbols.enumerated() { codes[Int(symbol)] = code }
    return codes
  }()

  private static func lengths(_ length: Int, _ count: Int) -> [UInt8] {
    (1...16).map { $0 == length ? UInt8(count) : 0 }
  }

  /// The indices in a block by rising frequency: along diagonals, alternately up and down.
  private static let zigzag: [Int] = (0..<64).sorted { a, b in
    let (sumA, sumB) = (a / 8 + a % 8, b / 8 + b % 8)
    if sumA != sumB { return sumA < sumB }
    return sumA % 2 == 0 ? a / 8 > b / 8 : a / 8 < b / 8
  }

  private struct Bits {
    private var bytes: [UInt8] = []
    private var pending = 0
    private var count = 0

    mutating func append(_ value: Int, _ length: Int) {
      pending = pending << length | value
      count += length
      while count >= 8 {
        let byte = UInt8(truncatingIfNeeded: pending >> (count - 8))
        bytes.append(byte)
        if byte == 0xFF { bytes.append(0) }
        count -= 8
      }
      pending &= (1 << count) - 1
    }

    /// Appends a number in `size` bits as JPEG encodes it: negative numbers are reduced by one.
    mutating func append(value: Int, _ size: Int) {
      append((value < 0 ? value - 1 : value) & ((1 << size) - 1), size)
    }

    func finished() -> [UInt8] {
      var copy = self
      if count > 0 { copy.append((1 << (8 - count)) - 1, 8 - count) }
      return copy.bytes
    }
  }
}
