/// The source samples that contribute to each output sample along one axis, and their weights.
///
/// Output i has its centre at (i + ½) s in source coordinates, with s = input / output. It sums the samples x with
/// |x + ½ − centre| < r max(s, 1), weighted by k((x + ½ − centre) / max(s, 1)) and normalised to a sum of 1; k is the
/// filter's kernel, r its radius. In an image that was shrunk by f, a sample stands for f samples of the input, which
/// then begins within the first sample and ends within the last; the weights of these two are multiplied by the share
/// of the sample that belongs to the input. Weights are rounded to 22 binary places as in PIL: results agree bit for
/// bit.
struct ResampleTable {
  /// The binary places of a weight: 32 bits, less 8 for the sample and 2 for sign and overshoot.
  static let precision: Int32 = 22

  /// Identifies the table from `input` samples to `output` samples, of which only `outputs` are computed. Each source
  /// sample stands for `shrink` samples of the input, which begins `offset` of them after the start of the first.
  struct Key: Hashable {
    let filter: ResampleFilter
    let input: Int
    let offset: Int
    let shrink: Int
    let output: Int
    let outputs: Range<Int>
    fileprivate var samples: Int { (offset + input + shrink - 1) / shrink }
    fileprivate var scale: Double { Double(input) / Double(shrink) / Double(output) }
    fileprivate var support: Double { filter.radius * max(scale, 1) }
    /// The number of weights reserved for an output.
    fileprivate var stride: Int { min(Int(support.rounded(.up)) * 2 + 1, samples) }
    fileprivate var weights: Int { outputs.count * stride }
  }

  /// The number of outputs in the table, and the index of the first one's taps among those of all tables.
  let count: Int
  let start: Int
  /// All source samples that any output needs. They may extend beyond those of the first and the last output: at an
  /// image's edge a sample may have a weight of zero for the last output of a window, but not for the one before it.
  let inputs: Range<Int>
}

/// A filter that weighs samples by their distance: Keys' cubic convolution with a = −½, or a triangle.
enum ResampleFilter: Sendable {
  case bicubic, bilinear

  /// The distance from which on weights are 0.
  var radius: Double { self == .bicubic ? 2 : 1 }

  func weight(_ distance: Double) -> Double {
    let x = abs(distance)
    if self == .bilinear { return max(1 - x, 0) }
    let a = -0.5
    if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
    if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
    return 0
  }
}

/// The tables of recent sizes, in memory that is allocated once. When it is full, all tables are dropped.
struct ResampleTables {
  /// One output's samples: `count`, at least 1, from sample `first` of the table's inputs on, and the first's weight.
  struct Taps {
    fileprivate(set) var first: Int
    let count: Int
    let weight: Int
  }

  private(set) var taps: [Taps] = []
  private(set) var weights: [Int32] = []
  private var tables: [ResampleTable.Key: ResampleTable] = [:]
  private var exact: [Double] = []
  /// The limits: 4 MB of weights and 3 MB of taps.
  private static let most = (weights: 1 << 20, taps: 1 << 17, tables: 1 << 11)

  /// Returns the tables of two directions, both of which are valid until the next call.
  mutating func pair(_ one: ResampleTable.Key, _ other: ResampleTable.Key) -> (ResampleTable, ResampleTable) {
    if let first = tables[one], let second = tables[other] { return (first, second) }
    let most = Self.most
    if weights.count + one.weights + other.weights > most.weights
      || taps.count + one.outputs.count + other.outputs.count > most.taps || tables.count + 2 > most.tables
    {
      tables.removeAll(keepingCapacity: true)
      taps.removeAll(keepingCapacity: true)
      weights.removeAll(keepingCapacity: true)
    }
    if tables.isEmpty {
      tables.reserveCapacity(most.tables)
      taps.reserveCapacity(most.taps)
      weights.reserveCapacity(most.weights)
    }
    return (table(one), table(other))
  }

  private mutating func table(_ key: ResampleTable.Key) -> ResampleTable {
    if let table = tables[key] { return table }
    precondition(
      key.input > 0 && key.outputs.lowerBound >= 0 && key.outputs.upperBound <= key.output && key.shrink > 0
        && key.offset >= 0 && key.offset < key.shrink, "a table of \(key)")
    let begin = Double(key.offset) / Double(key.shrink)
    let end = Double(key.offset + key.input) / Double(key.shrink)
    let (scale, support, filterScale) = (key.scale, key.support, max(key.scale, 1))
    let start = taps.count
    exact.grow(to: key.stride)
    for index in key.outputs {
      let center = begin + (Double(index) + 0.5) * scale
      let first = max(Int(center - support + 0.5), 0)
      let count = min(Int(center + support + 0.5), key.samples) - first
      var sum = 0.0
      for tap in 0..<count {
        let sample = Double(tap + first)
        let share = min(sample + 1, end) - max(sample, begin)
        exact[tap] = key.filter.weight((sample - center + 0.5) * (1 / filterScale)) * share
        sum += exact[tap]
      }
      append(first: first, count: count, sum: sum, stride: key.stride)
    }
    let lowest = taps[start...].lazy.map(\.first).min() ?? 0
    let highest = taps[start...].lazy.map { $0.first + $0.count }.max() ?? 0
    for index in start..<taps.count { taps[index].first -= lowest }
    let table = ResampleTable(count: key.outputs.count, start: start, inputs: lowest..<highest)
    tables[key] = table
    return table
  }

  /// Rounds and stores the weights of one output, leaving out zeros at either end.
  private mutating func append(first: Int, count samples: Int, sum: Double, stride: Int) {
    let at = weights.count
    for _ in 0..<stride { weights.append(0) }
    var leading = 0
    var count = 0
    for tap in 0..<samples {
      let value = exact[tap]
      let scaled = (sum == 0 ? value : value / sum) * Double(1 << ResampleTable.precision)
      let weight = Int32(scaled + (scaled < 0 ? -0.5 : 0.5))
      if weight == 0 && count == 0 {
        leading = tap + 1
      } else {
        weights[at + tap - leading] = weight
        if weight != 0 { count = tap - leading + 1 }
      }
    }
    precondition(count > 0, "the sample nearest to an output's centre has a positive weight")
    taps.append(Taps(first: first + leading, count: count, weight: at))
  }
}

extension Array where Element: AdditiveArithmetic {
  /// Makes the array at least `count` long. The contents are unspecified afterwards.
  mutating func grow(to count: Int) {
    if self.count < count { self = [Element](repeating: .zero, count: count) }
  }
}
