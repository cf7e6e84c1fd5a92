import Tensor
import Testing

@testable import Dist

/// Rows that pieces cut, and their marks.
@Suite struct MatrixRowsTests {
  /// 130 rows of 3 numbers and one number more. The pieces of four ranks end within rows, and one has nothing.
  private let rows = MatrixRows(width: 3, pieces: [0..<100, 100..<100, 100..<191, 191..<391])

  private func marks(_ touched: [Int]) -> MatrixRows.RowMarks {
    let marks = MatrixRows.RowMarks(words: Tensor(Shape(rows.words)))
    marks.set(touched)
    return marks
  }

  @Test func rowsAndWordsOfOwners() {
    #expect(rows.count == 131 && rows.words == 3 && rows.markBytes == 24)
    #expect((0..<4).map { rows.rows(of: $0) } == [0..<34, 0..<0, 33..<64, 63..<131])
    #expect((0..<4).map { rows.words(of: $0) } == [0..<1, 0..<0, 0..<1, 0..<3])
    // A count for each, and these words.
    #expect(rows.sentMarkBytes == 8 * (4 + 5) && rows.sentMarkBytes(to: 1) == 8)
  }

  @Test func marksAreSets() {
    let marks = marks([0, 33, 63, 63, 64, 130])
    #expect((0..<131).filter { marks.contains($0) } == [0, 33, 63, 64, 130] && marks.count == 5)
    marks.set([5])
    #expect((0..<131).filter { marks.contains($0) } == [5])
    marks.set(unionOf: [self.marks([1, 70]), self.marks([]), self.marks([70, 127])])
    #expect((0..<131).filter { marks.contains($0) } == [1, 70, 127])
  }

  /// Every number of a touched row belongs to one owner.
  @Test func partsOfTouchedRows() {
    let marks = marks([0, 33, 63, 130])
    func parts(_ owner: Int) -> [Range<Int>] {
      var parts: [Range<Int>] = []
      rows.forEachPart(of: owner, in: marks) { _, part in parts.append(part) }
      return parts
    }
    #expect((0..<4).map { parts($0) } == [[0..<3, 99..<100], [], [100..<102, 189..<191], [191..<192, 390..<391]])
    #expect(rows.numbers(of: [0, 1, 2, 3], in: marks) == 3 + 3 + 3 + 1 && rows.numbers(of: [2], in: marks) == 4)
    // An owner gets only the words of its own rows.
    let own = rows.words(of: 3)
    let received = MatrixRows.RowMarks(words: marks.words.slice(own), first: own.lowerBound)
    #expect(rows.numbers(of: [3], in: received) == 2)
    let last = MatrixRows.RowMarks(words: marks.words.slice(2..<3), first: 2)
    #expect(last.contains(130) && !last.contains(129))
  }
}
