import ArgumentParser
import Foundation

/// A way to average several models.
enum Average: Equatable {
  case uniform
  /// Each model's share is its number divided by the sum of all.
  case weights([Double])
  /// e₁ = x₁, eₖ = decay · eₖ₋₁ + (1 − decay) · xₖ over checkpoints in their order.
  case ema(Double)

  /// Returns the factors of `count` models, which sum to 1.
  func weights(of count: Int) -> [Double] {
    switch self {
    case .uniform: return [Double](repeating: 1 / Double(count), count: count)
    case .weights(let given):
      let sum = given.reduce(0, +)
      return given.map { $0 / sum }
    case .ema(let decay):
      return (0..<count).map { index in
        let later = pow(decay, Double(count - 1 - index))
        return index == 0 ? later : (1 - decay) * later
      }
    }
  }

  /// The name in the merged file and for people.
  var text: String {
    switch self {
    case .uniform: "uniform"
    case .weights: "weights"
    case .ema(let decay): "ema \(decay)"
    }
  }
}

/// The options that choose an average.
struct AverageOptions: ParsableArguments {
  @Flag(help: "The average of several models, each with the same weight unless --weights gives others.")
  var average = false

  @Option(
    help: ArgumentHelp(
      "The average of several models with these weights, one each, divided by their sum.", valueName: "a,b,…"))
  var weights: String?

  @Option(
    help: ArgumentHelp(
      "The exponential moving average of checkpoints in the order of their steps: at each, decay times the average "
        + "before and the rest of the new one.", valueName: "decay"))
  var ema: Double?

  /// Returns the chosen average of `count` models, or nil if none was asked for.
  func chosen(for count: Int) throws -> Average? {
    try require(
      ema == nil || !average && weights == nil,
      "--average or --weights and --ema are two ways to average; give one of them")
    var chosen = average ? Average.uniform : nil
    if let weights {
      let numbers = weights.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) ?? .nan }
      let sum = numbers.reduce(0, +)
      try require(
        numbers.allSatisfy { $0 >= 0 } && sum > 0 && sum.isFinite,
        "--weights: expected numbers of 0 or more between commas, with a finite sum that is not 0, found \(weights)")
      try require(
        numbers.count == count, "--weights gives \(numbers.count) weights for \(count) models; give one each")
      chosen = .weights(numbers)
    } else if let ema {
      try require(ema > 0 && ema < 1, "--ema: expected more than 0 and less than 1, found \(ema)")
      chosen = .ema(ema)
    }
    try require(
      count == 1 || chosen != nil, "\(count) models become one with --average, --weights or --ema; say which")
    try require(count > 1 || chosen == nil, "an average needs at least two models")
    return chosen
  }
}
