import Foundation
import TestSupport
import Testing

@testable import Tensor

/// Float's own polynomials against Double's C library, over the whole range.
@Suite struct VectorMathTests {
  /// Floats of every exponent and both signs, some 2000 to an exponent, specials left out.
  private static let everywhere = stride(from: UInt32(0), through: 0xFFFF_FFFF, by: 4093)
    .map { Float(bitPattern: $0) }.filter(\.isFinite)

  /// The distance in units of the last place that the expected number has as a Float.
  private static func units(_ actual: Float, _ expected: Double) -> Double {
    abs(Double(actual) - expected) / Double(Float(expected).ulp)
  }

  // MARK: exponential

  /// The largest error is 1 unit in the last place where eˣ is a normal number (0.98 was measured).
  @Test func exponentialIsWithinOneUnit() {
    var worst = (error: 0.0, x: Float(0))
    for x in Self.everywhere + Self.dense(from: -87.336, to: 88.722) where x >= -87.336 && x <= 88.722 {
      let error = Self.units(Float.exponential(x), exp(Double(x)))
      if error > worst.error { worst = (error, x) }
    }
    #expect(worst.error <= 1, "\(worst.error) units at \(worst.x)")
  }

  private static func dense(from low: Float, to high: Float) -> [Float] {
    (0...200_000).map { low + (high - low) * Float($0) / 200_000 }
  }

  @Test func exponentialAtTheEdges() {
    #expect(Float.exponential(0) == 1 && Float.exponential(-0.0) == 1)
    #expect(Float.exponential(.leastNonzeroMagnitude) == 1 && Float.exponential(-.leastNormalMagnitude) == 1)
    // Below the smallest normal number the result is zero, and never a subnormal number.
    for x in [-87.34, -88, -100, -103.9, -1e4, -Float.greatestFiniteMagnitude, -.infinity] as [Float] {
      #expect(Float.exponential(x) == 0, "\(x)")
    }
    // Above the largest number the result is finite and near it.
    for x in [88.72283, 88.8, 100, 1e4, Float.greatestFiniteMagnitude, .infinity] as [Float] {
      let value = Float.exponential(x)
      #expect(value.isFinite && value > 3.4e38, "\(x) gives \(value)")
    }
    #expect(Float.exponential(.nan).isNaN && Float.exponential(-.nan).isNaN)
    #expect(Double.exponential(.nan).isNaN && Double.exponential(-.infinity) == 0)
  }

  @Test func exponentialNeverFalls() {
    var last: Float = 0
    for x in Self.dense(from: -90, to: 90) {
      let value = Float.exponential(x)
      // Within a unit of the truth, so it may step back by a unit and no further.
      #expect(value >= last || value >= last.nextDown.nextDown, "at \(x)")
      last = value
    }
  }

  // MARK: gaussian

  private static func gaussian(_ x: Double) -> (cumulative: Double, density: Double) {
    (0.5 * erfc(-x / 2.0.squareRoot()), exp(-x * x / 2) / (2 * Double.pi).squareRoot())
  }

  /// x is rounded once when it is squared, which moves e^(−x²/2) by x²/2 · u and more in relative terms; beyond 13 both
  /// results stay where they are at 13, which is below 1e-36.
  @Test func gaussianIsWithinItsBounds() {
    for x in Self.everywhere + Self.dense(from: -13, to: 13) {
      let (cumulative, density) = Float.gaussian(x)
      let expected = Self.gaussian(Double(x))
      let square = Double(x) * Double(x) / 2
      if abs(x) <= 12.9 {
        let bound = (8 + 2 * square) * Float.roundoff
        #expect(abs(Double(density) - expected.density) <= bound * expected.density, "density at \(x)")
        #expect(abs(Double(cumulative) - expected.cumulative) <= bound * expected.cumulative, "cumulative at \(x)")
      } else {
        #expect(density >= 0 && density < 1e-36, "density at \(x)")
        #expect(abs(Double(cumulative) - expected.cumulative) < 1e-36, "cumulative at \(x)")
      }
    }
  }

  @Test func gaussianAtTheEdges() {
    for x in [0, -0.0, .leastNonzeroMagnitude, -.leastNonzeroMagnitude] as [Float] {
      let (cumulative, density) = Float.gaussian(x)
      #expect(Self.units(cumulative, 0.5) <= 1 && Self.units(density, 0.3989422804014327) <= 2, "\(x)")
    }
    #expect(Float.gaussian(.infinity).cumulative == 1 && Float.gaussian(-.infinity).cumulative < 1e-36)
    #expect(Double.gaussian(.infinity).cumulative == 1 && Double.gaussian(.infinity).density == 0)
    #expect(Double.gaussian(-.infinity).cumulative == 0 && Double.gaussian(-.infinity).density == 0)
    for x in [Float.nan, -.nan] {
      #expect(Float.gaussian(x).cumulative.isNaN && Float.gaussian(x).density.isNaN)
      #expect(Double.gaussian(Double(x)).cumulative.isNaN && Double.gaussian(Double(x)).density.isNaN)
    }
  }

  @Test func cumulativeOfBothSidesIsOne() {
    for x in Self.dense(from: 0, to: 14) {
      let sum = Float.gaussian(x).cumulative + Float.gaussian(-x).cumulative
      #expect(abs(sum - 1) <= Float.ulpOfOne, "\(x)")
    }
  }

  // MARK: largest

  @Test(arguments: [1, 2, 15, 16, 17, 64, 197, 1000]) func largestOfAll(count: Int) {
    func check<S: Scalar>(_: S.Type) {
      for offset in [-3, 0, 3] {
        let x = Tensor<S>.random(Shape(count), "x\(offset)")
        for index in 0..<count { x[index] += S(offset) }
        #expect(S.largest(x.pointer, count) == x.array.max())
      }
      let x = Tensor<S>(Shape(count))
      fill(x, -.infinity)
      #expect(S.largest(x.pointer, count) == -.infinity && S.largest(x.pointer, 0) == -.infinity)
      x[count / 2] = -.greatestFiniteMagnitude
      #expect(S.largest(x.pointer, count) == -.greatestFiniteMagnitude)
      x[count - 1] = .infinity
      #expect(S.largest(x.pointer, count) == .infinity)
    }
    check(Float.self)
    check(Double.self)
  }
}
