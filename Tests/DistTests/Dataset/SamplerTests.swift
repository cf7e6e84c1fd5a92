import Dist
import Testing

@Suite struct SamplerTests {
  func sampler(
    _ datasets: [(count: Int, weight: Double)], batch: Int, seed: UInt64 = 7, wrap: Bool = false
  ) throws -> Sampler {
    try Sampler(datasets: datasets, batch: batch, seed: seed, wrap: wrap)
  }

  /// Returns the samples of some steps, in order.
  func draws(_ sampler: Sampler, steps: Range<Int>) -> [Sampler.Draw] {
    steps.flatMap { sampler.draws(at: $0, rows: 0..<sampler.batch) }
  }

  @Test(arguments: [1, 2, 3, 5, 7])
  func ranksTogetherHaveTheGlobalBatch(ranks: Int) throws {
    let whole = try sampler([(100, 1), (31, 1)], batch: 13)
    for step in 0..<25 {
      let rows = try (0..<ranks).flatMap { rank in
        // Each rank has its own sampler and draws only its rows.
        try sampler([(100, 1), (31, 1)], batch: 13).draws(
          at: step, rows: (rank * 13 / ranks)..<((rank + 1) * 13 / ranks))
      }
      #expect(rows == whole.draws(at: step, rows: 0..<13))
    }
  }

  @Test func everySampleOnceAnEpochAndTheTailDropped() throws {
    let sampler = try sampler([(10, 1), (7, 1)], batch: 4)
    #expect(sampler.samplesPerEpoch == 17)
    #expect(sampler.stepsPerEpoch == 4)
    var orders: Set<[[Int]]> = []
    var dropped: Set<[Int]> = []
    for epoch in 0..<40 {
      let steps = epoch * 4..<(epoch + 1) * 4
      #expect(steps.allSatisfy { sampler.epoch(of: $0) == epoch })
      let seen = draws(sampler, steps: steps)
      #expect(Set(seen).count == 16)
      #expect(seen.allSatisfy { $0.pass == epoch && $0.sample < [10, 7][$0.dataset] })
      orders.insert(seen.map { [$0.dataset, $0.sample] })
      let all = (0..<10).map { [0, $0] } + (0..<7).map { [1, $0] }
      dropped.formUnion(Set(all).subtracting(seen.map { [$0.dataset, $0.sample] }))
    }
    #expect(orders.count == 40, "no two epochs have one order")
    #expect(dropped.count > 10, "it is not always the same samples that are dropped")
  }

  @Test func wrapFillsTheLastBatchFromTheBeginning() throws {
    let sampler = try sampler([(10, 1)], batch: 4, wrap: true)
    #expect(sampler.stepsPerEpoch == 3)
    for epoch in 0..<5 {
      let seen = draws(sampler, steps: epoch * 3..<(epoch + 1) * 3)
      #expect(Set(seen.prefix(10)).count == 10)
      #expect(Array(seen.suffix(2)) == Array(seen.prefix(2)))
      #expect(Set(seen.suffix(4)).count == 4)
    }
    // An epoch of whole batches is not filled.
    #expect(try self.sampler([(8, 1)], batch: 4, wrap: true).stepsPerEpoch == 2)
  }

  @Test func weightsAreSamplesAnEpoch() throws {
    let sampler = try sampler([(6, 2), (8, 0.5), (4, 1), (5, 0)], batch: 20)
    #expect(sampler.samplesPerEpoch == 12 + 4 + 4)
    var halves: [Int] = []
    for epoch in 0..<6 {
      let seen = draws(sampler, steps: epoch..<epoch + 1)
      let twice = seen.filter { $0.dataset == 0 }
      #expect(Dictionary(grouping: twice, by: \.sample).values.allSatisfy { $0.count == 2 })
      #expect(Set(twice.map(\.pass)) == [2 * epoch, 2 * epoch + 1], "each time with a view of its own")
      halves += seen.filter { $0.dataset == 1 }.map(\.sample)
      if epoch % 2 == 1 {
        #expect(halves.sorted() == Array(0..<8), "two epochs pass through it once")
        halves = []
      }
      #expect(seen.filter { $0.dataset == 1 }.allSatisfy { $0.pass == epoch / 2 })
      #expect(seen.filter { $0.dataset == 2 }.map(\.sample).sorted() == Array(0..<4))
      #expect(!seen.contains { $0.dataset == 3 })
    }
  }

  @Test func oddWeightsNeverPreferASample() throws {
    let sampler = try sampler([(10, 0.37), (10, 1.3)], batch: 5)
    var counts = [[Int]](repeating: [Int](repeating: 0, count: 10), count: 2)
    // A batch of a whole epoch has no tail, so every draw counts.
    let wrapping = try self.sampler([(10, 0.37), (10, 1.3)], batch: sampler.samplesPerEpoch)
    for epoch in 0..<100 {
      for draw in draws(wrapping, steps: epoch..<epoch + 1) { counts[draw.dataset][draw.sample] += 1 }
    }
    #expect(counts[0].allSatisfy { $0 == 40 }, "round(3.7) of 10 an epoch: \(counts[0])")
    #expect(counts[1].allSatisfy { $0 == 130 }, "\(counts[1])")
  }

  @Test func anyStepCanBeAskedAtAnyTime() throws {
    let forward = try sampler([(50, 1)], batch: 8)
    let expected = (0..<30).map { forward.draws(at: $0, rows: 0..<8) }
    let other = try sampler([(50, 1)], batch: 8)
    for step in (0..<30).reversed() { #expect(other.draws(at: step, rows: 0..<8) == expected[step]) }
    #expect(other.draws(at: 17, rows: 3..<5) == Array(expected[17][3..<5]))
  }

  @Test func seedsGiveOrders() throws {
    func order(_ seed: UInt64) throws -> [Int] {
      draws(try sampler([(20, 1)], batch: 20, seed: seed), steps: 0..<1).map(\.sample)
    }
    #expect(try order(7) == order(7))
    #expect(try order(7) != order(8))
    #expect(try order(7) != Array(0..<20))
  }

  /// The order of a run must not change with releases of this program or of the compiler without a note.
  @Test func theOrderIsFixedForEver() throws {
    let sampler = try sampler([(12, 1), (5, 0.6)], batch: 15, seed: 1)
    let first = draws(sampler, steps: 0..<1).map { "\($0.dataset).\($0.sample)" }
    let expected = "0.11 0.1 0.3 0.5 1.0 0.10 1.1 1.4 0.6 0.9 0.2 0.8 0.0 0.4 0.7"
    #expect(first.joined(separator: " ") == expected)
  }

  /// Each sample takes each place equally often: chi-squared over 100 cells, mean 90, deviation about 14.
  @Test func placesAreEven() throws {
    let sampler = try sampler([(10, 1)], batch: 10)
    var cells = [Int](repeating: 0, count: 100)
    let epochs = 5_000
    for epoch in 0..<epochs {
      for (place, draw) in draws(sampler, steps: epoch..<epoch + 1).enumerated() {
        cells[10 * place + draw.sample] += 1
      }
    }
    let expected = Double(epochs) / 10
    let deviation = cells.reduce(0.0) { $0 + (Double($1) - expected) * (Double($1) - expected) / expected }
    #expect(deviation > 40 && deviation < 140, "chi-squared \(deviation) with 81 degrees of freedom")
  }

  @Test func tooFewSamplesAndAbsurdWeights() throws {
    #expect(throws: SamplerError.tooFew(samples: 9, batch: 10)) { try sampler([(9, 1)], batch: 10) }
    #expect(throws: SamplerError.tooFew(samples: 9, batch: 10)) { try sampler([(9, 1)], batch: 10, wrap: true) }
    #expect(throws: SamplerError.tooFew(samples: 0, batch: 1)) { try sampler([], batch: 1) }
    #expect(throws: SamplerError.epochTooLong(samples: 1e301)) { try sampler([(10, 1e300)], batch: 1) }
    let error = #expect(throws: SamplerError.self) { try sampler([(9, 1)], batch: 10) }
    #expect(error?.status == .badData)
  }

  @Test func manyThreadsMayAsk() async throws {
    let sampler = try sampler([(64, 1)], batch: 8)
    let expected = (0..<64).map { sampler.draws(at: $0, rows: 0..<8) }
    await withTaskGroup(of: Bool.self) { group in
      for task in 0..<4 {
        group.addTask {
          (0..<64).allSatisfy {
            sampler.draws(at: ($0 * 13 + task) % 64, rows: 0..<8) == expected[($0 * 13 + task) % 64]
          }
        }
      }
      for await same in group { #expect(same) }
    }
  }
}
