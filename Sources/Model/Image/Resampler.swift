/// Bicubic resize with antialias, bit for bit as PIL's `resize(…, BICUBIC)` on 8-bit RGB.
///
/// Two passes, horizontal then vertical, with 8-bit values between them. The source may be a box of a picture (what a
/// crop followed by a resize gives: nothing outside the box is seen) and the result a window of the resized picture
/// (what a resize followed by a crop gives), without either intermediate picture. One resampler serves one thread; it
/// keeps its scratch and the tables of recent sizes.
public struct Resampler {
  private struct Key: Hashable {
    let input: Int
    let output: Int
    let outputs: Range<Int>
  }
  private var tables: [Key: ResampleTable] = [:]
  private var heldWeights = 0
  /// A block of source rows as columns, and what the horizontal pass made of it.
  private var columns: [UInt8] = []
  private var shrunk: [UInt8] = []
  /// Rows between the passes.
  private var between: [UInt8] = []
  private var sums: [Int32] = []

  /// Weights kept in tables before all are dropped: 4 MB.
  private static let weightLimit = 1 << 20
  /// Bytes of a block of columns, to stay within the second-level cache.
  private static let blockBytes = 128 << 10

  public init() {}

  /// Resizes `box` of `source` (all of it by default) to width × height pixels, in a new picture.
  public mutating func resize(_ source: RGBImage, box: CropBox? = nil, width: Int, height: Int) -> RGBImage {
    var result = RGBImage()
    let box = box ?? CropBox(left: 0, top: 0, width: source.width, height: source.height)
    resize(source, box: box, width: width, height: height, across: 0..<width, down: 0..<height, into: &result)
    return result
  }

  /// Resizes `box` of `source` to width × height pixels and puts the columns `across` and rows `down` of that picture
  /// into `result`.
  mutating func resize(
    _ source: RGBImage, box: CropBox, width: Int, height: Int, across: Range<Int>, down: Range<Int>,
    into result: inout RGBImage
  ) {
    precondition(box.fits(width: source.width, height: source.height), "\(box) in \(source.width) × \(source.height)")
    let horizontal = table(Key(input: box.width, output: width, outputs: across))
    let vertical = table(Key(input: box.height, output: height, outputs: down))
    let rows = vertical.inputs
    let rowBytes = across.count * 3
    result.reshape(width: across.count, height: down.count)
    sums.grow(to: rowBytes)
    between.grow(to: rows.count * rowBytes)
    shrinkRows(of: source, box: box, rows: rows, horizontal, rowBytes)

    for index in 0..<down.count {
      ResampleKernel.combine(
        between, from: (vertical.firsts[index] - rows.lowerBound) * rowBytes, stride: rowBytes,
        weights: vertical.weights, weight: index * vertical.stride, taps: vertical.counts[index],
        count: rowBytes, sums: &sums, into: &result.storage, to: index * rowBytes)
    }
  }

  /// The horizontal pass over the box's `rows`, into `between`.
  ///
  /// Rows are turned into columns block by block: the weighted sums then run over contiguous bytes of many rows at
  /// once, which vectorizes, where neighbouring outputs of one row would each need other weights.
  private mutating func shrinkRows(
    of source: RGBImage, box: CropBox, rows: Range<Int>, _ table: ResampleTable, _ rowBytes: Int
  ) {
    let inputs = table.inputs
    let block = min(max(Self.blockBytes / (inputs.count * 3), 8), 64, rows.count)
    columns.grow(to: inputs.count * block * 3)
    shrunk.grow(to: rowBytes * block)
    sums.grow(to: block * 3)
    for first in stride(from: rows.lowerBound, to: rows.upperBound, by: block) {
      let count = min(block, rows.upperBound - first)
      let corner = ((box.top + first) * source.width + box.left + inputs.lowerBound) * 3
      ResampleKernel.columns(
        source.storage, from: corner, rowBytes: source.width * 3, rows: count, width: inputs.count,
        into: &columns)
      for index in 0..<table.outputs.count {
        ResampleKernel.combine(
          columns, from: (table.firsts[index] - inputs.lowerBound) * count * 3, stride: count * 3,
          weights: table.weights, weight: index * table.stride, taps: table.counts[index],
          count: count * 3, sums: &sums, into: &shrunk, to: index * count * 3)
      }
      ResampleKernel.rows(
        shrunk, rows: count, width: table.outputs.count, into: &between,
        to: (first - rows.lowerBound) * rowBytes, rowBytes: rowBytes)
    }
  }

  private mutating func table(_ key: Key) -> ResampleTable {
    if let table = tables[key] { return table }
    let table = ResampleTable(input: key.input, output: key.output, outputs: key.outputs)
    if heldWeights + table.weights.count > Self.weightLimit {
      tables.removeAll(keepingCapacity: true)
      heldWeights = 0
    }
    tables[key] = table
    heldWeights += table.weights.count
    return table
  }
}

extension Array where Element: FixedWidthInteger {
  /// Makes the array at least `count` long; the contents are unspecified afterwards.
  fileprivate mutating func grow(to count: Int) {
    if self.count < count { self = [Element](repeating: 0, count: count) }
  }
}
