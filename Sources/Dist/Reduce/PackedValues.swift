internal import Tensor

/// The form in which the values of a bucket travel if some of them are rounded to bfloat16: each of those is one
/// element of two bytes, and every other number as many as its bits take. Ranks' pieces are packed end to end.
struct PackedValues<S: Scalar>: Sendable {
  /// Consecutive numbers of the arena that travel alike.
  private struct Run: Sendable {
    let range: Range<Int>
    let isRounded: Bool
    var elements: Int { isRounded ? range.count : range.count * PackedValues.elementsOfScalar }
  }

  /// Each rank's range of the packed elements.
  let ranges: [Range<Int>]
  private let runs: [[Run]]
  private static var elementsOfScalar: Int { MemoryLayout<S>.stride / MemoryLayout<UInt16>.stride }

  /// Creates the form of a bucket; nil if none of the `rounded` ranges of the arena, in rising order, is in it.
  init?(_ bucket: Bucket, rounded: [Range<Int>]) {
    let inside = rounded.filter { $0.overlaps(bucket.range) }
    if inside.isEmpty { return nil }
    runs = bucket.pieces.map { piece in
      var runs: [Run] = []
      var end = piece.lowerBound
      for range in inside.map({ $0.clamped(to: piece) }) where !range.isEmpty {
        if end < range.lowerBound { runs.append(Run(range: end..<range.lowerBound, isRounded: false)) }
        runs.append(Run(range: range, isRounded: true))
        end = range.upperBound
      }
      if end < piece.upperBound { runs.append(Run(range: end..<piece.upperBound, isRounded: false)) }
      return runs
    }
    ranges = runs.map { $0.reduce(0) { $0 + $1.elements } }.endToEnd
  }

  /// Writes a rank's piece of the arena `values` to its place in `packed`.
  func pack(_ values: Tensor<S>, of rank: Int, into packed: Tensor<UInt16>) {
    forEachRun(of: rank) { run, place in
      if run.isRounded {
        round(values.slice(run.range), into: packed.slice(place))
      } else {
        copyBits(values.slice(run.range), into: packed.slice(place))
      }
    }
  }

  /// Writes a rank's packed piece to its place in `values`.
  func unpack(_ packed: Tensor<UInt16>, of rank: Int, into values: Tensor<S>) {
    forEachRun(of: rank) { run, place in
      if run.isRounded {
        copy(MatrixOperand<S>.bf16(packed.slice(place)), into: values.slice(run.range))
      } else {
        copyBits(packed.slice(place), into: values.slice(run.range))
      }
    }
  }

  private func forEachRun(of rank: Int, _ body: (Run, _ place: Range<Int>) -> Void) {
    var start = ranges[rank].lowerBound
    for run in runs[rank] {
      body(run, start..<start + run.elements)
      start += run.elements
    }
  }

  /// Returns the bytes in which the numbers of a range of the arena travel.
  static func bytes(of range: Range<Int>, rounded: [Range<Int>]) -> Int {
    let count = rounded.reduce(0) { $0 + $1.clamped(to: range).count }
    return (range.count - count) * MemoryLayout<S>.stride + 2 * count
  }
}
