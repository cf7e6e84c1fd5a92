import Tensor
import TestSupport
import Testing

/// The check finds a wrong gradient: a check that cannot fail proves nothing.
@Suite struct GradientCheckTests {
  private let x = Tensor<Double>.random(Shape(5), "x")
  private let gradient = Tensor<Double>(Shape(5))

  /// y = x³ + x, whose gradient is changed by `fault`.
  private func check(
    accumulates: Bool = true, _ fault: (_ index: Int, _ right: Double) -> Double
  ) -> GradientReport {
    GradientCheck([.init("x", x, gradient: gradient, accumulates: accumulates)]).run {
      x.array.map { $0 * $0 * $0 + $0 }
    } backward: { weights in
      for index in 0..<5 {
        let right = weights[index] * (3 * x[index] * x[index] + 1)
        gradient[index] = (accumulates ? gradient[index] : 0) + fault(index, right)
      }
    }
  }

  @Test func acceptsTheRightGradient() {
    let report = check { $1 }
    #expect(report.passed && report.count == 5, "\(report)")
    #expect(check(accumulates: false) { $1 }.passed)
  }

  @Test(arguments: [1e-9, -1e-9, 1e-3, 1])
  func refusesARelativeErrorInOneElement(error: Double) {
    let report = check { index, right in index == 3 ? right * (1 + error) : right }
    #expect(!report.passed && report.failures == 1 && report.worst?.index == 3, "\(report)")
  }

  @Test func refusesWhatIsNotANumber() {
    #expect(!check { $0 == 1 ? .nan : $1 }.passed)
    #expect(!check { $0 == 1 ? .infinity : $1 }.passed)
  }

  @Test func refusesAGradientThatIsAssignedAndNotAdded() {
    let report = GradientCheck([.init("x", x, gradient: gradient)]).run {
      x.array
    } backward: { weights in
      for index in 0..<5 { gradient[index] = weights[index] }
    }
    #expect(report.failures == 5, "\(report)")
  }

  @Test func refusesAGradientThatIsAddedAndNotAssigned() {
    let report = GradientCheck([.init("x", x, gradient: gradient, accumulates: false)]).run {
      x.array
    } backward: { weights in
      for index in 0..<5 { gradient[index] += weights[index] }
    }
    #expect(report.failures == 5, "\(report)")
  }

  @Test func refusesAVariableOfWhichItCanTellNothing() {
    let other = Tensor<Double>.random(Shape(2), "other")
    let report = GradientCheck([
      .init("x", x, gradient: gradient), .init("other", other, gradient: Tensor(Shape(2))),
    ]).run {
      x.array
    } backward: { weights in
      for index in 0..<5 { gradient[index] += weights[index] }
    }
    #expect(!report.passed && report.failures == 0 && report.blind == ["other"], "\(report)")
  }

  @Test func leavesTheVariablesAsTheyWere() {
    let before = x.array
    _ = check { $1 }
    #expect(x.array == before)
  }
}

/// `Deviation`, on which golden tests and comparisons with slow references rely.
@Suite struct DeviationTests {
  @Test func worstElement() {
    let deviation = Deviation([1, 2.5, 3] as [Float], from: [1, 2, 4])
    #expect(deviation.index == 2 && deviation.absolute == 1 && deviation.size == 4 && deviation.relative == 0.25)
    #expect(deviation.share(within: 0.5) == 2 / 3.0)
  }

  @Test func whatIsNotFiniteIsInfinitelyFar() {
    #expect(Deviation([1, Double.nan], from: [1, 2]).relative == .infinity)
    #expect(Deviation([1, Double.infinity], from: [1, 2]).relative == .infinity)
    #expect(Deviation([1, 2.0], from: [1, .nan]).absolute == .infinity)
    #expect(Deviation([1, Double.nan], from: [1, 2]).share(within: 1e300) == 0.5)
  }

  @Test func otherCountsAreInfinitelyFar() {
    #expect(Deviation([1.0], from: [1, 1]).relative == .infinity)
    #expect(Deviation([1.0, 1, 1], from: [1, 1]).relative == .infinity)
    #expect(Deviation([1.0], from: [1, 1]).share(within: 1) == 0)
  }

  @Test func zeroIsExpectedToBeZero() {
    #expect(Deviation([0.0], from: [0]).relative == 0)
    #expect(Deviation([1e-300], from: [0]).relative == .infinity)
  }
}
