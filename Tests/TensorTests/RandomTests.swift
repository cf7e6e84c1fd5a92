import TestSupport
import Testing

@testable import Tensor

@Suite struct RandomTests {
  /// Known answers of Random123 (kat_vectors, philox4x32, 10 rounds).
  @Test func philoxKnownAnswers() {
    #expect(KeyedRandom.philox([0, 0, 0, 0], [0, 0]) == [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8])
    let ones = UInt32.max
    #expect(
      KeyedRandom.philox([ones, ones, ones, ones], [ones, ones])
        == [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd])
    #expect(
      KeyedRandom.philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0])
        == [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1])
  }

  private static func first(_ seed: UInt64, _ purpose: String, _ a: UInt64 = 0, _ b: UInt64 = 0) -> [UInt64] {
    var random = KeyedRandom(seed: seed, purpose: purpose, a, second: b)
    return (0..<4).map { _ in random.next() }
  }

  @Test func aKeyHasOneStreamAndOthersHaveOthers() {
    #expect(Self.first(1, "crop", 2, 3) == Self.first(1, "crop", 2, 3))
    var keys = [
      Self.first(1, "crop"), Self.first(2, "crop"), Self.first(1, "crops"), Self.first(1, "cro"), Self.first(1, ""),
      Self.first(1, "crop", 1), Self.first(1, "crop", 0, 1), Self.first(1, "crop", 1, 1), Self.first(1, "p"),
      Self.first(0, "crop"), Self.first(.max, "crop"), Self.first(1, "prco"),
    ]
    for number in 2..<500 {
      keys.append(Self.first(1, "crop", UInt64(number)))
      keys.append(Self.first(1, "crop", 0, UInt64(number)))
      keys.append(Self.first(UInt64(number), "order"))
    }
    #expect(Set(keys.flatMap { $0 }).count == 4 * keys.count, "two keys share a number")
  }

  /// Means of n numbers stay within five standard errors; the streams are fixed, so the test is deterministic.
  private func expectMean(_ numbers: [Double], _ mean: Double, deviation: Double, _ name: Comment) {
    let found = numbers.reduce(0, +) / Double(numbers.count)
    #expect(abs(found - mean) <= 5 * deviation / Double(numbers.count).squareRoot(), "\(name): \(found), not \(mean)")
  }

  private static let count = 100_000

  @Test func uniform() {
    var random = KeyedRandom(seed: 11, purpose: "uniform")
    let numbers = (0..<Self.count).map { _ in random.uniform() }
    #expect(numbers.allSatisfy { $0 >= 0 && $0 < 1 })
    expectMean(numbers, 0.5, deviation: (1.0 / 12).squareRoot(), "mean")
    expectMean(numbers.map { $0 * $0 }, 1.0 / 3, deviation: (4.0 / 45).squareRoot(), "square")
    // 64 cells: chi-squared with 63 degrees of freedom is 63 ± 11.2.
    var cells = [Double](repeating: 0, count: 64)
    for number in numbers { cells[Int(number * 64)] += 1 }
    let expected = Double(Self.count) / 64
    let chi = cells.reduce(0) { $0 + ($1 - expected) * ($1 - expected) / expected }
    #expect(chi > 63 - 5 * 11.2 && chi < 63 + 5 * 11.2, "chi-squared \(chi)")
    let bounded = (0..<1000).map { _ in random.uniform(from: 2, to: 3) }
    #expect(bounded.allSatisfy { $0 >= 2 && $0 < 3 })
  }

  @Test func everyBitIsOneHalfOfTheTime() {
    var random = KeyedRandom(seed: 12, purpose: "bits")
    let words = (0..<20_000).map { _ in random.next() }
    for bit in 0..<64 {
      expectMean(words.map { Double($0 >> UInt64(bit) & 1) }, 0.5, deviation: 0.5, "bit \(bit)")
    }
  }

  /// Neighbouring keys, and neighbouring numbers of one stream, are not correlated.
  @Test func independence() {
    var random = KeyedRandom(seed: 13, purpose: "pairs")
    let stream = (0...Self.count).map { _ in random.uniform() - 0.5 }
    expectMean(zip(stream, stream.dropFirst()).map { $0 * $1 }, 0, deviation: 1.0 / 12, "neighbours in a stream")
    let keys = (0...Self.count).map { key in
      var random = KeyedRandom(seed: 13, purpose: "keys", UInt64(key))
      return random.uniform() - 0.5
    }
    expectMean(zip(keys, keys.dropFirst()).map { $0 * $1 }, 0, deviation: 1.0 / 12, "neighbouring keys")
    expectMean(keys, 0, deviation: (1.0 / 12).squareRoot(), "first numbers of keys")
  }

  @Test func normal() {
    var random = KeyedRandom(seed: 14, purpose: "normal")
    let numbers = (0..<Self.count).map { _ in random.normal() }
    #expect(numbers.allSatisfy { $0.isFinite })
    expectMean(numbers, 0, deviation: 1, "mean")
    expectMean(numbers.map { $0 * $0 }, 1, deviation: 2.0.squareRoot(), "variance")
    expectMean(numbers.map { $0 * $0 * $0 }, 0, deviation: 15.0.squareRoot(), "third moment")
    expectMean(numbers.map { $0 * $0 * $0 * $0 }, 3, deviation: 96.0.squareRoot(), "fourth moment")
    expectMean(numbers.map { abs($0) <= 1 ? 1 : 0 }, 0.6826894921, deviation: 0.4655, "within one deviation")
    expectMean(numbers.map { abs($0) > 3 ? 1 : 0 }, 0.0026997961, deviation: 0.0519, "beyond three")
  }

  @Test func below() {
    var random = KeyedRandom(seed: 15, purpose: "below")
    var counts = [Int](repeating: 0, count: 7)
    for _ in 0..<70_000 { counts[random.below(7)] += 1 }
    // 10,000 each, with a standard deviation of 92.6.
    #expect(counts.allSatisfy { abs($0 - 10_000) < 463 }, "\(counts)")
    let only = random.below(1)
    #expect(only == 0)
  }
}
