import Foundation
import Model
import TestSupport
import Testing

@Suite struct ScheduleTests {
  @Test func warmupRisesToTheBaseRate() {
    let schedule = Schedule(base: 0.5, warmup: 4, total: 10)
    #expect((0..<4).map { schedule.learningRate(at: $0) } == [0.125, 0.25, 0.375, 0.5])
    #expect(schedule.learningRate(at: 4) == 0.5)
  }

  @Test func cosineFallsToZeroAndStaysThere() {
    let schedule = Schedule(base: 2, warmup: 0, total: 8)
    #expect(schedule.learningRate(at: 0) == 2)
    #expect(abs(schedule.learningRate(at: 4) - 1) < 1e-15)
    for step in 0..<8 { #expect(schedule.learningRate(at: step + 1) < schedule.learningRate(at: step)) }
    #expect(schedule.learningRate(at: 8) == 0 && schedule.learningRate(at: 100) == 0)
  }

  @Test func constantStays() {
    let schedule = Schedule(shape: .constant, base: 0.25, warmup: 2, total: 5)
    #expect([0, 1, 2, 4, 5, 99].map { schedule.learningRate(at: $0) } == [0.125, 0.25, 0.25, 0.25, 0.25, 0.25])
  }

  /// Warm-up over all steps, or over more than there are, does not divide by zero.
  @Test(arguments: [(5, 5), (8, 5), (0, 0), (1, 1)]) func nothingAfterWarmup(warmup: Int, total: Int) {
    let schedule = Schedule(base: 1, warmup: warmup, total: total)
    for step in 0..<10 {
      let rate = schedule.learningRate(at: step)
      #expect(rate.isFinite && rate == (step < warmup ? Double(step + 1) / Double(warmup) : 0), "step \(step)")
    }
  }

  @Test func clipFactorIsThatOfPyTorch() {
    #expect(clipFactor(norm: 3, limit: nil) == 1)
    #expect(clipFactor(norm: 0.5, limit: 1) == 1)
    #expect(clipFactor(norm: 4, limit: 1) == 1 / 4.000001)
    #expect(clipFactor(norm: 0, limit: 0.5) == 1)
  }
}

/// The part `adamw_schedule.json` of the golden set.
@Suite struct ScheduleGoldenTests {
  struct Golden: Decodable {
    struct Cosine: Decodable {
      struct Point: Decodable {
        let step: Int
        let lr: Double
      }
      let baseLr: Double
      let warmup: Int
      let total: Int
      let points: [Point]
    }
    struct Scalars: Decodable {
      struct Step: Decodable {
        let lr: Double
        let grads: [Double]
        let params: [Double]
      }
      let weightDecay: Double
      let betas: [Double]
      let eps: Double
      let initial: [Double]
      let decayed: [Bool]
      let clamp: [Double]
      let steps: [Step]
    }
    let cosine: [Cosine]
    let adamwScalars: [Scalars]
  }

  static let tolerance = 1e-12
  let golden: Golden

  init() throws {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    golden = try decoder.decode(
      Golden.self, from: Data(contentsOf: Fixture.golden.appending(path: "adamw_schedule.json")))
  }

  @Test func cosine() throws {
    for run in try Fixture.required(golden.cosine, "schedules in adamw_schedule.json") {
      let schedule = Schedule(base: run.baseLr, warmup: run.warmup, total: run.total)
      for point in try Fixture.required(run.points, "points of a schedule in adamw_schedule.json") {
        let rate = schedule.learningRate(at: point.step)
        #expect(
          abs(rate - point.lr) <= Self.tolerance * point.lr,
          "step \(point.step) of \(run.total), warm-up \(run.warmup): \(rate), expected \(point.lr)")
      }
    }
  }

  /// Scalars with scripted gradients; the last is clamped after each step, as the logit scale is.
  @Test func adamWOfScalars() throws {
    for run in try Fixture.required(golden.adamwScalars, "runs of AdamW in adamw_schedule.json") {
      let model = Scalars(run)
      for (index, step) in try Fixture.required(run.steps, "steps of AdamW in adamw_schedule.json").enumerated() {
        model.update(step.grads, learningRate: step.lr)
        let deviation = Deviation(model.values, from: step.params)
        for (found, expected) in zip(model.values, step.params) {
          #expect(abs(found - expected) <= Self.tolerance * abs(expected), "step \(index): \(deviation)")
        }
      }
    }
  }
}
