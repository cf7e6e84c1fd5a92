internal import Synchronization
internal import Tensor

/// Chooses the samples of each step's global batch from the seed and the step alone. A dataset is an endless stream of
/// passes, each in an order of its own. An epoch shuffles the next round(weight · samples) of each stream together.
public final class Sampler: Sendable {
  /// One sample of a batch.
  public struct Draw: Sendable, Hashable {
    public let dataset: Int
    public let sample: Int
    /// The number of earlier passes through the dataset, which selects the view: the crop and the caption.
    public let pass: Int
  }

  /// The samples in an epoch, before the last incomplete batch is dropped or filled.
  public let samplesPerEpoch: Int
  public let stepsPerEpoch: Int
  /// The size N of the global batch.
  public let batch: Int
  /// The limit on the samples that a run draws: products of its steps and sizes stay far below 64 bits.
  public static let mostSamples = 1 << 53
  /// The limit on the samples in an epoch, because its order is held in memory.
  private static let longestEpoch = 0x1p31
  private let seed: UInt64
  private let datasets: [(count: Int, share: Int)]
  private let latest = Mutex(Epoch())

  /// The order of an epoch, in memory that the next epoch reuses.
  private struct Epoch {
    var number: Int?
    var draws: [Draw] = []
    var order: [Int] = []
  }

  /// An epoch's last incomplete batch is filled from the epoch's beginning if `wrap`, or else dropped.
  public init(datasets: [(count: Int, weight: Double)], batch: Int, seed: UInt64, wrap: Bool) throws(SamplerError) {
    precondition(batch > 0 && datasets.allSatisfy { $0.count >= 0 && $0.weight >= 0 })
    let shares = datasets.map { (Double($0.count) * $0.weight).rounded() }
    let total = shares.reduce(0, +)
    guard total <= Self.longestEpoch else { throw SamplerError.epochTooLong(samples: total) }
    self.datasets = zip(datasets, shares).map { ($0.count, Int($1)) }
    (self.batch, self.seed) = (batch, seed)
    samplesPerEpoch = Int(total)
    guard samplesPerEpoch >= batch else { throw SamplerError.tooFew(samples: samplesPerEpoch, batch: batch) }
    stepsPerEpoch = wrap ? (samplesPerEpoch + batch - 1) / batch : samplesPerEpoch / batch
  }

  /// Returns the epoch of a step. Both are counted from 0.
  public func epoch(of step: Int) -> Int { step / stepsPerEpoch }

  /// Returns the samples in the rows `rows` of the global batch of step `step`, counted from 0.
  public func draws(at step: Int, rows: Range<Int>) -> [Draw] {
    var list: [Draw] = []
    appendDraws(at: step, rows: rows, to: &list)
    return list
  }

  /// Appends the samples to a list instead.
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
    for (dataset, (count, share)) in datasets.enumerated() where count > 0 {
      let own = epoch * share..<(epoch + 1) * share
      for pass in own.lowerBound / count..<(own.upperBound + count - 1) / count {
        order.removeAll(keepingCapacity: true)
        order.append(contentsOf: 0..<count)
        shuffle(&order, "order of a corpus", keys: UInt64(dataset), UInt64(pass))
        let places = own.clamped(to: pass * count..<(pass + 1) * count)
        for place in places { draws.append(Draw(dataset: dataset, sample: order[place - pass * count], pass: pass)) }
      }
    }
    shuffle(&draws, "order of an epoch", keys: UInt64(epoch), 0)
  }

  private func shuffle<Element>(_ list: inout [Element], _ purpose: String, keys a: UInt64, _ b: UInt64) {
    var random = KeyedRandom(seed: seed, purpose: purpose, a, second: b)
    list.shuffle(using: &random)
  }
}

/// The reason why a sampler cannot draw batches.
public enum SamplerError: ExitCoded, Equatable, CustomStringConvertible {
  case tooFew(samples: Int, batch: Int)
  case epochTooLong(samples: Double)
  public var status: ExitStatus { .badData }
  public var description: String {
    switch self {
    case .tooFew(let samples, let batch):
      "an epoch has \(samples) samples, but a global batch needs \(batch): lower batch.global or add datasets"
    case .epochTooLong(let samples):
      "an epoch would have \(samples) samples, but at most 2³¹ are possible: lower the weights in data.datasets"
    }
  }
}
