/// The two passes of a resize, with the scratch that they keep.
struct ResamplePasses {
  /// A block of source rows as columns, and what the horizontal pass made of it.
  private var columns: [UInt8] = []
  private var resized: [UInt8] = []
  private var sums: [Int32] = []

  /// Bytes of a block of columns, to stay within the second-level cache.
  private static let blockBytes = 128 << 10
  /// Rows of a block.
  private static let (fewest, most) = (8, 64)

  /// Where pixels lie in an array: `rowBytes` apart from row to row, the first byte of interest at `start`.
  struct Layout {
    let start: Int
    let rowBytes: Int
  }

  /// Takes the memory that any box of a picture may need, `width` pixels wide when it is resized.
  mutating func reserve(sourceWidth: Int, width: Int) {
    columns.grow(to: min(max(Self.blockBytes, Self.fewest * sourceWidth * 3), Self.most * sourceWidth * 3))
    resized.grow(to: Self.most * width * 3)
    sums.grow(to: max(sourceWidth, width, Self.most) * 3)
  }

  /// Resizes in the vertical direction the `count` bytes of each row.
  ///
  /// Row y of `result`, `count` bytes long, is the weighted sum of the source rows that `table` gives for it; the
  /// layout starts at the first row that any output needs.
  mutating func vertical(
    _ source: [UInt8], _ layout: Layout, _ table: ResampleTable, of tables: ResampleTables, count: Int,
    into result: inout [UInt8]
  ) {
    let first = table.inputs.lowerBound
    for index in 0..<table.count {
      let span = tables.spans[table.span + index]
      ResampleKernel.combine(
        source, from: layout.start + (Int(span.first) - first) * layout.rowBytes, stride: layout.rowBytes,
        weights: tables.weights, weight: table.weight + index * table.stride, taps: Int(span.count), count: count,
        sums: &sums, into: &result, to: index * count)
    }
  }

  /// Resizes in the horizontal direction `rows` rows, whose layout starts at the first pixel that any output needs.
  ///
  /// Rows are turned into columns block by block: the weighted sums then run over contiguous bytes of many rows at
  /// once, which vectorizes, where neighbouring outputs of one row would each need other weights.
  mutating func horizontal(
    _ source: [UInt8], _ layout: Layout, _ table: ResampleTable, of tables: ResampleTables, rows: Int,
    into result: inout [UInt8]
  ) {
    let inputs = table.inputs
    let width = table.count
    let block = min(max(Self.blockBytes / (inputs.count * 3), Self.fewest), Self.most, rows)
    for first in stride(from: 0, to: rows, by: block) {
      let count = min(block, rows - first)
      ResampleKernel.columns(
        source, from: layout.start + first * layout.rowBytes, rowBytes: layout.rowBytes, rows: count,
        width: inputs.count, into: &columns)
      for index in 0..<width {
        let span = tables.spans[table.span + index]
        ResampleKernel.combine(
          columns, from: (Int(span.first) - inputs.lowerBound) * count * 3, stride: count * 3,
          weights: tables.weights, weight: table.weight + index * table.stride, taps: Int(span.count),
          count: count * 3,
          sums: &sums, into: &resized, to: index * count * 3)
      }
      ResampleKernel.rows(
        resized, rows: count, width: width, into: &result, to: first * width * 3, rowBytes: width * 3)
    }
  }
}

extension Array where Element: AdditiveArithmetic {
  /// Makes the array at least `count` long; the contents are unspecified afterwards.
  mutating func grow(to count: Int) {
    if self.count < count { self = [Element](repeating: .zero, count: count) }
  }
}
