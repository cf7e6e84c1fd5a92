/// Which source samples make each output sample of one direction, and with what weights.
///
/// Output i has its centre at (i + ½) s, s = input / output, in source coordinates, and gathers the samples x with
/// |x + ½ − centre| < 2 max(s, 1), weighted by k((x + ½ − centre) / max(s, 1)) and divided by their sum. k is the
/// cubic with a = −½. Of a picture that was shrunk by f, samples are 1/f of the wanted input: it begins within the first
/// sample and ends within the last one, whose weights are multiplied by the share that belongs to it. Weights are rounded to 22 binary places, as PIL rounds them, so that results agree bit for bit.
struct ResampleTable {
  /// Binary places of a weight: 32 bits less 8 of a sample, less 2 for sign and overshoot.
  static let precision: Int32 = 22

  /// Which outputs the table covers.
  let outputs: Range<Int>
  /// The first source sample of each output.
  private(set) var firsts: [Int] = []
  /// How many source samples each output has; at least 1.
  private(set) var counts: [Int] = []
  /// `stride` weights an output, of which the first `counts[i]` are used.
  private(set) var weights: [Int32]
  let stride: Int

  /// The table from `input` samples to `output`, of which only `outputs` are wanted.
  ///
  /// With `shrink` above 1 the source has one sample for so many of the input, which begins `offset` of them behind the
  /// beginning of the first one.
  init(input: Int, offset: Int = 0, shrink: Int = 1, output: Int, outputs: Range<Int>) {
    precondition(input > 0 && output > 0 && outputs.lowerBound >= 0 && outputs.upperBound <= output)
    precondition(shrink > 0 && offset >= 0 && offset < shrink)
    self.outputs = outputs
    let start = Double(offset) / Double(shrink)
    let end = Double(offset + input) / Double(shrink)
    let samples = (offset + input + shrink - 1) / shrink
    let scale = Double(input) / Double(shrink) / Double(output)
    let filterScale = max(scale, 1)
    let support = 2 * filterScale
    stride = min(Int(support.rounded(.up)) * 2 + 1, samples)
    weights = [Int32](repeating: 0, count: outputs.count * stride)
    firsts.reserveCapacity(outputs.count)
    counts.reserveCapacity(outputs.count)
    var exact = [Double](repeating: 0, count: stride)
    for index in outputs {
      let center = start + (Double(index) + 0.5) * scale
      let first = max(Int(center - support + 0.5), 0)
      let count = min(Int(center + support + 0.5), samples) - first
      var sum = 0.0
      for tap in 0..<count {
        let sample = Double(tap + first)
        let share = min(sample + 1, end) - max(sample, start)
        exact[tap] = Self.cubic((sample - center + 0.5) * (1 / filterScale)) * share
        sum += exact[tap]
      }
      append(first, exact[..<count], sum)
    }
  }

  /// All source samples that some output needs. Not always those from the first output's to the last one's: at a
  /// picture's edge the last output of a window may have a weight of zero where the one before it has not.
  var inputs: Range<Int> {
    guard let first = firsts.min(), let end = zip(firsts, counts).map({ $0 + $1 }).max() else { return 0..<0 }
    return first..<end
  }

  /// Rounds the weights of one output; zeros at either end are left out.
  private mutating func append(_ first: Int, _ exact: ArraySlice<Double>, _ sum: Double) {
    let at = firsts.count * stride
    var leading = 0
    var count = 0
    for (tap, value) in exact.enumerated() {
      let scaled = (sum == 0 ? value : value / sum) * Double(1 << Self.precision)
      let weight = Int32(scaled + (scaled < 0 ? -0.5 : 0.5))
      if weight == 0 && count == 0 {
        leading = tap + 1
      } else {
        weights[at + tap - leading] = weight
        if weight != 0 { count = tap - leading + 1 }
      }
    }
    precondition(count > 0, "the sample nearest to an output's centre has a positive weight")
    firsts.append(first + leading)
    counts.append(count)
  }

  /// The cubic convolution kernel of Keys with a = −½.
  static func cubic(_ distance: Double) -> Double {
    let a = -0.5
    let x = abs(distance)
    if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
    if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
    return 0
  }
}
