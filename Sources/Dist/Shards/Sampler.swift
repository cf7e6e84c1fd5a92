internal import Synchronization
internal import Tensor

/// Which samples make the global batch of each step: a function of the seed and the step, the same for any number of
/// ranks, so that a run can go on from any step.
///
/// Each corpus is an endless stream of passes, every pass an order of its own. An epoch takes the next
/// round(weight · samples) of each corpus's stream and mixes them. So with weight 1 every sample is seen once an epoch,
/// with weight 2 twice, and with weight 0.5 once in two epochs.
public final class Sampler: Sendable {
  /// One sample of a batch.
  public struct Draw: Sendable, Hashable {
    public let corpus: Int
    public let sample: Int
    /// How often the corpus has been passed through before: the view of the picture, for crops and captions.
    public let pass: Int
  }

  /// Samples in an epoch, before the tail is dropped or filled.
  public let samplesPerEpoch: Int
  public let stepsPerEpoch: Int
  /// N, over all ranks.
  public let batch: Int
  /// The order of an epoch is held in memory.
  private static let longestEpoch = 0x1p31
  private let seed: UInt64
  private let corpora: [(count: Int, share: Int)]
  private let latest = Mutex(Epoch())

  /// The order of an epoch, in memory that the next one uses again.
  private struct Epoch {
    var number: Int?
    var draws: [Draw] = []
    /// Of one pass through a corpus.
    var order: [Int] = []
  }

  /// - Parameters:
  ///   - corpora: how many samples each has, and its weight.
  ///   - batch: the global batch N.
  ///   - wrap: whether an epoch's last incomplete batch is filled from the epoch's beginning; otherwise it is dropped.
  public init(corpora: [(count: Int, weight: Double)], batch: Int, seed: UInt64, wrap: Bool) throws(SamplerError) {
    precondition(batch > 0 && corpora.allSatisfy { $0.count >= 0 && $0.weight >= 0 })
    let shares = corpora.map { (Double($0.count) * $0.weight).rounded() }
    let total = shares.reduce(0, +)
    guard total <= Self.longestEpoch else { throw SamplerError.epochTooLong(samples: total) }
    self.corpora = zip(corpora, shares).map { ($0.count, Int($1)) }
    self.batch = batch
    self.seed = seed
    samplesPerEpoch = Int(total)
    guard samplesPerEpoch >= batch else { throw SamplerError.tooFew(samples: samplesPerEpoch, batch: batch) }
    stepsPerEpoch = wrap ? (samplesPerEpoch + batch - 1) / batch : samplesPerEpoch / batch
  }

  /// The epoch of a step, counted from 0.
  public func epoch(of step: Int) -> Int { step / stepsPerEpoch }

  /// What stands in `rows` of the global batch of step `step`, counted from 0.
  public func draws(at step: Int, rows: Range<Int>) -> [Draw] {
    var list: [Draw] = []
    appendDraws(at: step, rows: rows, to: &list)
    return list
  }

  /// The same, behind what a list has already.
  public func appendDraws(at step: Int, rows: Range<Int>, to list: inout [Draw]) {
    let number = epoch(of: step)
    let start = step % stepsPerEpoch * batch
    latest.withLock { latest in
      if latest.number != number {
        mix(number, &latest.draws, &latest.order)
        latest.number = number
      }
      for row in rows { list.append(latest.draws[(start + row) % samplesPerEpoch]) }
    }
  }

  private func mix(_ epoch: Int, _ draws: inout [Draw], _ order: inout [Int]) {
    draws.removeAll(keepingCapacity: true)
    draws.reserveCapacity(samplesPerEpoch)
    for (corpus, (count, share)) in corpora.enumerated() where count > 0 {
      var position = epoch * share
      let end = position + share
      while position < end {
        let pass = position / count
        order.removeAll(keepingCapacity: true)
        order.append(contentsOf: 0..<count)
        shuffle(&order, "order of a corpus", UInt64(corpus), UInt64(pass))
        let next = min(end, (pass + 1) * count)
        for place in position..<next {
          draws.append(Draw(corpus: corpus, sample: order[place - pass * count], pass: pass))
        }
        position = next
      }
    }
    shuffle(&draws, "order of an epoch", UInt64(epoch), 0)
  }

  private func shuffle<Element>(_ list: inout [Element], _ purpose: String, _ a: UInt64, _ b: UInt64) {
    var random = KeyedRandom(seed: seed, purpose: purpose, a, b)
    list.shuffle(using: &random)
  }
}

/// Why no batches can be drawn.
public enum SamplerError: ExitCoded, Equatable, CustomStringConvertible {
  /// Fewer samples than a batch has rows.
  case tooFew(samples: Int, batch: Int)
  /// A weight asks for an epoch of absurd length.
  case epochTooLong(samples: Double)

  public var exitCode: Int32 { 65 }
  public var description: String {
    switch self {
    case .tooFew(let samples, let batch):
      "an epoch has \(samples) samples and a global batch wants \(batch): lower batch.global or add corpora"
    case .epochTooLong(let samples):
      "an epoch would have \(samples) samples, at most 2³¹ are possible: lower the weights in data.corpora"
    }
  }
}
