/// Which source samples make each output sample of one direction, and with what weights.
///
/// Output i has its centre at (i + ½) s, s = input / output, in source coordinates, and gathers the samples x with
/// |x + ½ − centre| < 2 max(s, 1), weighted by k((x + ½ − centre) / max(s, 1)) and divided by their sum. k is the
/// cubic with a = −½. Of a picture that was shrunk by f, samples are 1/f of the wanted input: it begins within the
/// first sample and ends within the last one, whose weights are multiplied by the share that belongs to it. Weights are
/// rounded to 22 binary places, as PIL rounds them, so that results agree bit for bit.
struct ResampleTable {
  /// Binary places of a weight: 32 bits less 8 of a sample, less 2 for sign and overshoot.
  static let precision: Int32 = 22

  /// The table from `input` samples to `output`, of which only `outputs` are wanted.
  ///
  /// With `shrink` above 1 the source has one sample for so many of the input, which begins `offset` of them behind the
  /// beginning of the first one.
  struct Key: Hashable {
    let input: Int
    let offset: Int
    let shrink: Int
    let output: Int
    let outputs: Range<Int>

    /// Where the input begins and ends in the source.
    fileprivate var start: Double { Double(offset) / Double(shrink) }
    fileprivate var end: Double { Double(offset + input) / Double(shrink) }
    fileprivate var samples: Int { (offset + input + shrink - 1) / shrink }
    fileprivate var scale: Double { Double(input) / Double(shrink) / Double(output) }
    fileprivate var support: Double { 2 * max(scale, 1) }
    /// Weights that an output has room for.
    fileprivate var stride: Int { min(Int(support.rounded(.up)) * 2 + 1, samples) }
    fileprivate var weights: Int { outputs.count * stride }
  }

  /// How many outputs the table covers.
  let count: Int
  /// Where the spans and the weights of the first output are among those of all tables.
  let span: Int
  let weight: Int
  /// `stride` weights an output, of which the first of its span are used.
  let stride: Int
  /// All source samples that some output needs. Not always those from the first output's to the last one's: at a
  /// picture's edge the last output of a window may have a weight of zero where the one before it has not.
  fileprivate(set) var inputs: Range<Int>

  /// The cubic convolution kernel of Keys with a = −½.
  static func cubic(_ distance: Double) -> Double {
    let a = -0.5
    let x = abs(distance)
    if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
    if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
    return 0
  }
}

/// The tables of recent sizes, in memory that is taken once: where it is full, all of them make room for the next.
struct ResampleTables {
  /// The first source sample of an output, and how many it has; at least 1.
  struct Span {
    let first: Int32
    let count: Int32
  }

  private(set) var spans: [Span] = []
  private(set) var weights: [Int32] = []
  private var tables: [ResampleTable.Key: ResampleTable] = [:]
  private var exact: [Double] = []

  /// 4 MB of weights, 1 MB of spans.
  private static let most = (weights: 1 << 20, spans: 1 << 17, tables: 1 << 11)

  /// The tables of two directions, which are there together.
  mutating func pair(
    _ one: ResampleTable.Key, _ other: ResampleTable.Key
  ) -> (ResampleTable, ResampleTable) {
    if let first = tables[one], let second = tables[other] { return (first, second) }
    let most = Self.most
    if weights.count + one.weights + other.weights > most.weights
      || spans.count + one.outputs.count + other.outputs.count > most.spans || tables.count + 2 > most.tables
    {
      tables.removeAll(keepingCapacity: true)
      spans.removeAll(keepingCapacity: true)
      weights.removeAll(keepingCapacity: true)
    }
    if tables.isEmpty {
      tables.reserveCapacity(most.tables)
      spans.reserveCapacity(most.spans)
      weights.reserveCapacity(most.weights)
    }
    return (table(one), table(other))
  }

  private mutating func table(_ key: ResampleTable.Key) -> ResampleTable {
    if let table = tables[key] { return table }
    precondition(
      key.input > 0 && key.outputs.lowerBound >= 0 && key.outputs.upperBound <= key.output && key.shrink > 0
        && key.offset >= 0 && key.offset < key.shrink, "a table of \(key)")
    var table = ResampleTable(
      count: key.outputs.count, span: spans.count, weight: weights.count, stride: key.stride, inputs: 0..<0)
    let (start, end, samples, scale) = (key.start, key.end, key.samples, key.scale)
    let (filterScale, support) = (max(scale, 1), key.support)
    exact.grow(to: table.stride)
    var (lowest, highest) = (Int.max, 0)
    for index in key.outputs {
      let center = start + (Double(index) + 0.5) * scale
      let first = max(Int(center - support + 0.5), 0)
      let count = min(Int(center + support + 0.5), samples) - first
      var sum = 0.0
      for tap in 0..<count {
        let sample = Double(tap + first)
        let share = min(sample + 1, end) - max(sample, start)
        exact[tap] = ResampleTable.cubic((sample - center + 0.5) * (1 / filterScale)) * share
        sum += exact[tap]
      }
      let span = append(first, count, sum, stride: table.stride)
      lowest = min(lowest, Int(span.first))
      highest = max(highest, Int(span.first + span.count))
    }
    table.inputs = lowest == .max ? 0..<0 : lowest..<highest
    tables[key] = table
    return table
  }

  /// Rounds the weights of one output; zeros at either end are left out.
  private mutating func append(_ first: Int, _ taps: Int, _ sum: Double, stride: Int) -> Span {
    let at = weights.count
    for _ in 0..<stride { weights.append(0) }
    var leading = 0
    var count = 0
    for tap in 0..<taps {
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
    let span = Span(first: Int32(first + leading), count: Int32(count))
    spans.append(span)
    return span
  }
}
