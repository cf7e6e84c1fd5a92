/// Bicubic or bilinear resize with antialiasing, bit for bit equal to PIL's `resize` on 8-bit RGB (Pillow 13).
///
/// There are two passes with 8-bit values between them: horizontal then vertical, or the reverse if the height shrinks
/// by more than twice as many pixels as the width. Before version 13, Pillow never began with the vertical pass, and
/// gives other values in that case. The source may be a box of an image, which equals a crop and then a resize, and the
/// result a window of the resized image, which equals a resize and then a crop; neither intermediate image is made. A
/// resampler keeps buffers and the tables of recent sizes, and must be used by one thread at a time.
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
    filter: ResampleFilter = .bicubic, into result: inout RGBImage
  ) {
    precondition(box.fits(width: source.whole.width, height: source.whole.height), "\(box) in \(source.whole)")
    let shrink = source.shrink
    let (horizontal, vertical) = tables.pair(
      .init(
        filter: filter, input: box.width, offset: box.left % shrink, shrink: shrink, output: width, outputs: across),
      .init(
        filter: filter, input: box.height, offset: box.top % shrink, shrink: shrink, output: height, outputs: down))
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

  /// Resizes in the vertical direction: each row of `result`, of as many bytes and without gaps, is the weighted sum of
  /// the source rows in `table`. `rows` begins with the first row that any output needs.
  mutating func vertical(
    _ source: [UInt8], _ rows: ResampleLines, _ table: ResampleTable, of tables: ResampleTables,
    into result: inout [UInt8]
  ) {
    for index in 0..<table.count {
      let taps = tables.taps[table.start + index]
      let lines = ResampleLines(start: rows.start + taps.first * rows.stride, stride: rows.stride, bytes: rows.bytes)
      ResampleKernel.combine(
        source, lines, taps, weights: tables.weights, sums: &sums, into: &result, at: index * rows.bytes)
    }
  }

  /// Resizes `rows` rows in the horizontal direction. `lines` begins with the first pixel that any output needs. Blocks
  /// of rows are turned into columns, so that the weighted sums run over contiguous bytes of many rows and vectorize;
  /// along a row each output would need other weights than its neighbour.
  mutating func horizontal(
    _ source: [UInt8], _ lines: ResampleLines, _ table: ResampleTable, of tables: ResampleTables, rows: Int,
    into result: inout [UInt8]
  ) {
    let (inputs, width) = (table.inputs.count, table.count)
    let block = min(max(Self.blockBytes / (inputs * 3), Self.fewest), Self.most, rows)
    for first in stride(from: 0, to: rows, by: block) {
      let count = min(block, rows - first)
      let column = count * 3
      let blockRows = PixelGrid(start: lines.start + first * lines.stride, row: lines.stride, pixel: 3)
      let blockColumns = PixelGrid(start: 0, row: 3, pixel: column)
      ResampleKernel.copy(source, blockRows, into: &columns, blockColumns, rows: count, width: inputs)
      for index in 0..<width {
        let taps = tables.taps[table.start + index]
        let lines = ResampleLines(start: taps.first * column, stride: column, bytes: column)
        ResampleKernel.combine(
          columns, lines, taps, weights: tables.weights, sums: &sums, into: &resized, at: index * column)
      }
      let resizedRows = PixelGrid(start: first * width * 3, row: width * 3, pixel: 3)
      ResampleKernel.copy(resized, blockColumns, into: &result, resizedRows, rows: count, width: width)
    }
  }
}

/// The inner loops of the resize, over raw bytes. Each function checks all bounds at its start and none after.
enum ResampleKernel {
  /// Computes one output line as a weighted sum of `taps.count` source lines, which are rows of pixels in the vertical
  /// pass and columns of them in the horizontal pass: with start, stride and bytes of `lines`, for 0 ≤ j < bytes
  /// into[at + j] = clip((2²¹ + Σ_t weights[taps.weight + t] · source[start + t · stride + j]) / 2²²).
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

  /// Copies the pixels of RGB in `rows` rows of `width` pixels from one grid to another.
  static func copy(
    _ source: [UInt8], _ from: PixelGrid, into: inout [UInt8], _ to: PixelGrid, rows: Int, width: Int
  ) {
    precondition(from.holds(rows: rows, width: width, in: source.count))
    precondition(to.holds(rows: rows, width: width, in: into.count))
    unsafe source.withUnsafeBufferPointer { source in
      unsafe into.withUnsafeMutableBufferPointer { into in
        for row in 0..<rows {
          let old = unsafe source.baseAddress! + from.start + row * from.row
          let new = unsafe into.baseAddress! + to.start + row * to.row
          for x in 0..<width {
            unsafe new[x &* to.pixel] = unsafe old[x &* from.pixel]
            unsafe new[x &* to.pixel &+ 1] = unsafe old[x &* from.pixel &+ 1]
            unsafe new[x &* to.pixel &+ 2] = unsafe old[x &* from.pixel &+ 2]
          }
        }
      }
    }
  }
}

/// Pixels of RGB in an array: that of row y and column x begins at start + y · row + x · pixel.
struct PixelGrid {
  let start: Int
  let row: Int
  let pixel: Int

  func holds(rows: Int, width: Int, in count: Int) -> Bool {
    start >= 0 && rows > 0 && width > 0 && start + (rows - 1) * row + (width - 1) * pixel + 3 <= count
  }
}
