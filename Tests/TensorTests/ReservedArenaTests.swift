import Tensor
import Testing

/// A reserved arena takes memory only for the pages that were written.
@Suite struct ReservedArenaTests {
  @Test func pagesComeAndGo() {
    // A GiB of addresses, of which 8 MiB are written in the middle.
    let arena = ReservedArena<Float>(count: 1 << 28)
    #expect(arena.values.count == 1 << 28 && arena.residentBytes == 0)
    let written = (1 << 27) + 5..<(1 << 27) + 5 + (1 << 21)
    fill(arena.values.slice(written), 3)
    // Whole pages at both ends.
    let bytes = written.count * 4
    #expect((bytes...bytes + (4 << 20)).contains(arena.residentBytes))
    let half = written.lowerBound + written.count / 2
    arena.discard(half..<written.upperBound)
    #expect((bytes / 2...bytes / 2 + (4 << 20)).contains(arena.residentBytes))
    // Neighbours on the same page stay.
    #expect(arena.values.slice(written.lowerBound..<half).array.allSatisfy { $0 == 3 })
    #expect(arena.values[half + (1 << 16)] == 0)
    arena.discard(written.lowerBound..<written.lowerBound + 3)
    #expect(arena.values[written.lowerBound] == 3)
  }

  @Test func aTensorKeepsItsMemory() {
    var tail: Tensor<Double>?
    do {
      let arena = ReservedArena<Double>(count: 1000)
      fill(arena.values, 7)
      tail = arena.values.slice(990..<1000)
    }
    #expect(tail?.array == [Double](repeating: 7, count: 10))
  }
}
