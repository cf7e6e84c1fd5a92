/// Bicubic resize with antialiasing, bit for bit equal to PIL's `resize(…, BICUBIC)` on 8-bit RGB (Pillow 13).
///
/// There are two passes with 8-bit values between them: horizontal then vertical, or the reverse if the height shrinks
/// by more than twice as many pixels as the width. The source may be a box of an image, which equals a crop followed by
/// a resize (nothing outside the box contributes), and the result a window of the resized image, which equals a resize
/// followed by a crop; neither intermediate image is made. A resampler keeps its buffers and the tables of recent
/// sizes, and must be used by one thread at a time.
public struct Resampler {
  private var tables = ResampleTables()
  private var passes = ResamplePasses()
  /// The rows between the passes, with room for those of the whole image: boxes are large and small by chance.
  private var between: [UInt8] = []

  public init() {}

  /// Resizes `box` of `source` (by default all of it) to a new image of width × height pixels.
  public mutating func resize(_ source: RGBImage, box: CropBox? = nil, width: Int, height: Int) -> RGBImage {
    var result = RGBImage()
    let box = box ?? CropBox(left: 0, top: 0, width: source.width, height: source.height)
    resize(source, box: box, width: width, height: height, across: 0..<width, down: 0..<height, into: &result)
    return result
  }

  /// Resizes `box` of `source` to width × height pixels, of which the columns `across` and rows `down` go to `result`.
  /// The box is in pixels of the original image even if `source` is shrunk.
  mutating func resize(
    _ source: RGBImage, box: CropBox, width: Int, height: Int, across: Range<Int>, down: Range<Int>,
    into result: inout RGBImage
  ) {
    precondition(box.fits(width: source.whole.width, height: source.whole.height), "\(box) in \(source.whole)")
    let shrink = source.shrink
    let (horizontal, vertical) = tables.pair(
      ResampleTable.Key(
        input: box.width, offset: box.left % shrink, shrink: shrink, output: width, outputs: across),
      ResampleTable.Key(
        input: box.height, offset: box.top % shrink, shrink: shrink, output: height, outputs: down))
    let (columns, rows) = (horizontal.inputs, vertical.inputs)
    let (left, top) = (box.left / shrink + columns.lowerBound, box.top / shrink + rows.lowerBound)
    let corner = (top * source.width + left) * 3
    let needed = ResampleLines(start: corner, stride: source.width * 3, bytes: columns.count * 3)
    result.reshape(width: across.count, height: down.count)
    passes.reserve(sourceWidth: source.width, width: across.count)
    if height < box.height && box.height - height > 2 * (box.width - width) {
      between.grow(to: down.count * source.width * 3)
      passes.vertical(source.storage, needed, vertical, of: tables, into: &between)
      let lines = ResampleLines(start: 0, stride: columns.count * 3, bytes: columns.count * 3)
      passes.horizontal(between, lines, horizontal, of: tables, rows: down.count, into: &result.storage)
    } else {
      between.grow(to: source.height * across.count * 3)
      passes.horizontal(source.storage, needed, horizontal, of: tables, rows: rows.count, into: &between)
      let lines = ResampleLines(start: 0, stride: across.count * 3, bytes: across.count * 3)
      passes.vertical(between, lines, vertical, of: tables, into: &result.storage)
    }
  }
}

/// The lines of an image in an array: each of `bytes` bytes, `stride` bytes apart, the first at offset `start`.
struct ResampleLines {
  let start: Int
  let stride: Int
  let bytes: Int
}

/// The two passes of a resize, and the buffers that they keep.
struct ResamplePasses {
  /// A block of source rows as columns, and the output of the horizontal pass for that block.
  private var columns: [UInt8] = []
  private var resized: [UInt8] = []
  private var sums: [Int32] = []

  /// The size of a block of columns in bytes, chosen to stay within the second-level cache.
  private static let blockBytes = 128 << 10
  /// The bounds of the number of rows in a block.
  private static let (fewest, most) = (8, 64)

  /// Allocates the memory that any box of an image may need when it is resized to `width` pixels a row.
  mutating func reserve(sourceWidth: Int, width: Int) {
    columns.grow(to: min(max(Self.blockBytes, Self.fewest * sourceWidth * 3), Self.most * sourceWidth * 3))
    resized.grow(to: Self.most * width * 3)
    sums.grow(to: max(sourceWidth, width, Self.most) * 3)
  }

  /// Resizes in the vertical direction: each row of `result` is the weighted sum of the source rows in `table`.
  ///
  /// `rows` begins with the first row that any output needs; rows of `result` have the same number of bytes and no gaps
  /// between them.
  mutating func vertical(
    _ source: [UInt8], _ rows: ResampleLines, _ table: ResampleTable, of tables: ResampleTables,
    into result: inout [UInt8]
  ) {
    for index in 0..<table.count {
      let taps = tables.taps(ofOutput: index, in: table)
      let lines = ResampleLines(start: rows.start + taps.first * rows.stride, stride: rows.stride, bytes: rows.bytes)
      ResampleKernel.combine(
        source, lines, taps, weights: tables.weights, sums: &sums, into: &result, at: index * rows.bytes)
    }
  }

  /// Resizes `rows` rows in the horizontal direction. `lines` begins with the first pixel that any output needs.
  ///
  /// Rows are turned into columns block by block. The weighted sums then run over contiguous bytes of many rows, which
  /// vectorizes; along a row each output would need other weights than its neighbour.
  mutating func horizontal(
    _ source: [UInt8], _ lines: ResampleLines, _ table: ResampleTable, of tables: ResampleTables, rows: Int,
    into result: inout [UInt8]
  ) {
    let inputs = table.inputs
    let width = table.count
    let block = min(max(Self.blockBytes / (inputs.count * 3), Self.fewest), Self.most, rows)
    for first in stride(from: 0, to: rows, by: block) {
      let count = min(block, rows - first)
      let blockRows = ResampleLines(
        start: lines.start + first * lines.stride, stride: lines.stride, bytes: inputs.count * 3)
      ResampleKernel.columns(source, blockRows, count: count, into: &columns)
      let column = count * 3
      for index in 0..<width {
        let taps = tables.taps(ofOutput: index, in: table)
        ResampleKernel.combine(
          columns, ResampleLines(start: taps.first * column, stride: column, bytes: column), taps,
          weights: tables.weights, sums: &sums, into: &resized, at: index * column)
      }
      let resizedRows = ResampleLines(start: first * width * 3, stride: width * 3, bytes: width * 3)
      ResampleKernel.rows(resized, count: count, into: &result, resizedRows)
    }
  }
}

/// The inner loops of the resize, over raw bytes. Each function checks all bounds once at its start and then runs
/// without checks.
enum ResampleKernel {
  /// Computes one output line as a weighted sum of `taps.count` source lines.
  ///
  /// into[at + j] = clip((2²¹ + Σ_t weights[taps.weight + t] · source[start + t · stride + j]) / 2²²), 0 ≤ j < bytes,
  /// with start, stride and bytes of `lines`. A line is a row of pixels in the vertical pass, and a column of pixels
  /// from many rows in the horizontal pass.
  static func combine(
    _ source: [UInt8], _ lines: ResampleLines, _ taps: ResampleTables.Taps, weights: [Int32], sums: inout [Int32],
    into: inout [UInt8], at: Int
  ) {
    let (start, stride, count) = (lines.start, lines.stride, lines.bytes)
    precondition(start >= 0 && taps.count > 0 && start + (taps.count - 1) * stride + count <= source.count)
    precondition(taps.weight >= 0 && taps.weight + taps.count <= weights.count)
    precondition(at >= 0 && count <= sums.count && at + count <= into.count)
    unsafe source.withUnsafeBufferPointer { source in
      unsafe weights.withUnsafeBufferPointer { weights in
        unsafe sums.withUnsafeMutableBufferPointer { sums in
          unsafe into.withUnsafeMutableBufferPointer { into in
            let lines = unsafe source.baseAddress! + start
            let weights = unsafe weights.baseAddress! + taps.weight
            let sums = sums.baseAddress!
            unsafe add(lines, stride: stride, weights, taps: taps.count, to: sums, count: count)
            unsafe clip(sums, count, into.baseAddress! + at)
          }
        }
      }
    }
  }

  /// sums[j] = 2²¹ + Σ_t weights[t] · lines[t · stride + j], four lines at a time.
  private static func add(
    _ lines: UnsafePointer<UInt8>, stride: Int, _ weights: UnsafePointer<Int32>, taps: Int,
    to sums: UnsafeMutablePointer<Int32>, count: Int
  ) {
    let half: Int32 = 1 << (ResampleTable.precision - 1)
    for j in 0..<count { unsafe sums[j] = half }
    var tap = 0
    while tap + 4 <= taps {
      // One pointer a line: an index such as j + stride would be checked for overflow and keep the loop scalar.
      let first = unsafe lines + tap * stride
      let (second, third, fourth) = unsafe (first + stride, first + 2 * stride, first + 3 * stride)
      let (a, b, c, d) = unsafe (weights[tap], weights[tap + 1], weights[tap + 2], weights[tap + 3])
      for j in 0..<count {
        let left = unsafe Int32(first[j]) &* a &+ Int32(second[j]) &* b
        let right = unsafe Int32(third[j]) &* c &+ Int32(fourth[j]) &* d
        unsafe sums[j] = unsafe sums[j] &+ (left &+ right)
      }
      tap += 4
    }
    while tap < taps {
      let line = unsafe lines + tap * stride
      let weight = unsafe weights[tap]
      for j in 0..<count { unsafe sums[j] = unsafe sums[j] &+ Int32(line[j]) &* weight }
      tap += 1
    }
  }

  private static func clip(_ sums: UnsafePointer<Int32>, _ count: Int, _ bytes: UnsafeMutablePointer<UInt8>) {
    for j in 0..<count {
      let value = unsafe sums[j] >> ResampleTable.precision
      unsafe bytes[j] = UInt8(truncatingIfNeeded: min(max(value, 0), 255))
    }
  }

  /// Turns `count` rows of RGB into columns: into[(x · count + r) · 3 + c] = row r, pixel x, channel c.
  static func columns(_ source: [UInt8], _ rows: ResampleLines, count: Int, into: inout [UInt8]) {
    let (start, stride, width) = (rows.start, rows.stride, rows.bytes / 3)
    precondition(start >= 0 && count > 0 && start + (count - 1) * stride + width * 3 <= source.count)
    precondition(width * count * 3 <= into.count)
    unsafe source.withUnsafeBufferPointer { source in
      unsafe into.withUnsafeMutableBufferPointer { into in
        for row in 0..<count {
          let pixels = unsafe source.baseAddress! + start + row * stride
          let column = unsafe into.baseAddress! + row * 3
          for x in 0..<width {
            unsafe column[x &* count &* 3] = unsafe pixels[x &* 3]
            unsafe column[x &* count &* 3 &+ 1] = unsafe pixels[x &* 3 &+ 1]
            unsafe column[x &* count &* 3 &+ 2] = unsafe pixels[x &* 3 &+ 2]
          }
        }
      }
    }
  }

  /// The reverse of `columns`: turns columns of `count` pixels into rows, which go to the lines `rows` of `into`.
  static func rows(_ source: [UInt8], count: Int, into: inout [UInt8], _ rows: ResampleLines) {
    let (start, stride, width) = (rows.start, rows.stride, rows.bytes / 3)
    precondition(count > 0 && width * count * 3 <= source.count)
    precondition(start >= 0 && start + (count - 1) * stride + width * 3 <= into.count)
    unsafe source.withUnsafeBufferPointer { source in
      unsafe into.withUnsafeMutableBufferPointer { into in
        for row in 0..<count {
          let column = unsafe source.baseAddress! + row * 3
          let pixels = unsafe into.baseAddress! + start + row * stride
          for x in 0..<width {
            unsafe pixels[x &* 3] = unsafe column[x &* count &* 3]
            unsafe pixels[x &* 3 &+ 1] = unsafe column[x &* count &* 3 &+ 1]
            unsafe pixels[x &* 3 &+ 2] = unsafe column[x &* count &* 3 &+ 2]
          }
        }
      }
    }
  }
}
