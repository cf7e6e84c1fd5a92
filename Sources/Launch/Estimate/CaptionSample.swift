import Foundation
import Tensor

/// The lengths and words of captions as a run will see them: what its text costs depends on them.
struct CaptionSample: Sendable {
  /// Tokens of each caption, both ends counted.
  let lengths: [Int]
  /// In how many of the captions each token is that is in any.
  private let occurrences: [Int]

  init(_ captions: [[Int32]]) {
    lengths = captions.map(\.count)
    var found: [Int32: Int] = [:]
    for caption in captions { for token in Set(caption) { found[token, default: 0] += 1 } }
    occurrences = Array(found.values)
  }

  var mean: Double { Double(lengths.reduce(0, +)) / Double(max(lengths.count, 1)) }
  var longest: Int { lengths.max() ?? 0 }

  /// Tokens of `b` captions that hardly any step exceeds: b mean + 4 √b deviation, at most b times the longest.
  func tokens(of b: Int) -> Int {
    let mean = mean
    let variance = lengths.reduce(0.0) { $0 + pow(Double($1) - mean, 2) } / Double(max(lengths.count, 1))
    return min(Int((Double(b) * mean + 4 * (Double(b) * variance).squareRoot()).rounded(.up)), b * longest)
  }

  /// The expected number of different tokens in `b` captions, each with a token in a share q of them independently:
  /// Σ 1 − (1 − q)^b.
  func differentTokens(in b: Int) -> Double {
    let count = Double(lengths.count)
    return occurrences.reduce(0) { $0 + 1 - pow(1 - Double($1) / count, Double(b)) }
  }
}
