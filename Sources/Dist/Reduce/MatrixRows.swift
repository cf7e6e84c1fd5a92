internal import Tensor

/// The rows of a matrix of which each rank owns a piece, which may begin and end within a row.
public struct MatrixRows: Sendable {
  private static let bitsOfWord = 64
  let width: Int
  /// The numbers of the matrix that each rank owns. They follow one another from 0.
  let pieces: [Range<Int>]

  public init(width: Int, pieces: [Range<Int>]) { (self.width, self.pieces) = (width, pieces) }

  /// The number of rows, of which the last may be incomplete.
  var count: Int { ((pieces.last?.upperBound ?? 0) + width - 1) / width }

  /// Returns the rows that overlap the piece of `owner`.
  func rows(of owner: Int) -> Range<Int> {
    let piece = pieces[owner]
    return piece.isEmpty ? 0..<0 : piece.lowerBound / width..<(piece.upperBound - 1) / width + 1
  }

  /// The number of words that mark all rows.
  var words: Int { (count + Self.bitsOfWord - 1) / Self.bitsOfWord }

  /// Returns the words that mark the rows of `owner`, and some of their neighbours.
  func words(of owner: Int) -> Range<Int> {
    let rows = rows(of: owner)
    return rows.isEmpty ? 0..<0 : rows.lowerBound / Self.bitsOfWord..<(rows.upperBound - 1) / Self.bitsOfWord + 1
  }

  /// The bytes of the marks of all rows.
  public var markBytes: Int { words * MemoryLayout<Int>.stride }

  /// The bytes of one node's marks for all owners: those of each owner's rows, and a count.
  public var sentMarkBytes: Int { pieces.indices.reduce(0) { $0 + sentMarkBytes(to: $1) } }

  func sentMarkBytes(to owner: Int) -> Int { (1 + words(of: owner).count) * MemoryLayout<Int>.stride }

  /// Calls `body` with each marked row that overlaps the piece of `owner`, in rising order, and the numbers that it has
  /// in that piece.
  func forEachPart(of owner: Int, in marks: RowMarks, _ body: (_ row: Int, _ part: Range<Int>) -> Void) {
    for row in rows(of: owner) where marks.contains(row) {
      body(row, (row * width..<(row + 1) * width).clamped(to: pieces[owner]))
    }
  }

  /// Returns how many numbers of marked rows are in the pieces of these owners.
  func numbers(of owners: [Int], in marks: RowMarks) -> Int {
    var sum = 0
    for owner in owners { forEachPart(of: owner, in: marks) { _, part in sum += part.count } }
    return sum
  }

  /// A set of rows, which has a bit for each. Unlike a list of rows its length is known to whoever receives it.
  struct RowMarks {
    /// Words of the marks, of which the first has the number `first` among those of all rows.
    let words: Tensor<Int>
    var first = 0

    /// The number of marked rows.
    var count: Int { (0..<words.count).reduce(0) { $0 + words[$1].nonzeroBitCount } }

    func contains(_ row: Int) -> Bool {
      let (word, bit) = row.quotientAndRemainder(dividingBy: MatrixRows.bitsOfWord)
      return words[word - first] >> bit & 1 == 1
    }

    /// Marks these rows and no others.
    func set(_ rows: [Int]) {
      for word in 0..<words.count { words[word] = 0 }
      for row in rows {
        let (word, bit) = row.quotientAndRemainder(dividingBy: MatrixRows.bitsOfWord)
        words[word - first] |= 1 << bit
      }
    }

    /// Marks all rows that some of the others mark, which have the same words.
    func set(unionOf others: [RowMarks]) {
      for word in 0..<words.count { words[word] = others.reduce(0) { $0 | $1.words[word] } }
    }
  }
}
