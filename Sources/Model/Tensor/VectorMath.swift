public import RealModule

/// Elementary functions that the compiler turns into vector code: no branch, no call, no table. Float has polynomials,
/// accurate to a few units in the last place; Double, which verifies and need not be fast, calls the C library.
public protocol VectorMath: Real {
  /// Returns eˣ, or 0 where that is below the smallest normal number. Float clamps x so that the result is finite.
  static func exponential(_ x: Self) -> Self

  /// Returns the standard normal distribution Φ(x) = ½(1 + erf(x/√2)) and its density φ(x) = e^(−x²/2)/√(2π).
  static func gaussian(_ x: Self) -> (cumulative: Self, density: Self)

  /// Returns the largest of `count` numbers, −∞ if there are none.
  static func largest(_ numbers: UnsafePointer<Self>, _ count: Int) -> Self
}

extension Double: VectorMath {
  @inline(__always) public static func exponential(_ x: Double) -> Double { Double.exp(x) }

  public static func gaussian(_ x: Double) -> (cumulative: Double, density: Double) {
    // The complementary error function keeps the relative precision of the lower tail.
    (0.5 * Double.erfc(-x * 0.7071067811865476), Double.exp(-0.5 * x * x) * 0.3989422804014327)
  }

  public static func largest(_ numbers: UnsafePointer<Double>, _ count: Int) -> Double {
    (0..<count).reduce(-Double.infinity) { numbers[$1] > $0 ? numbers[$1] : $0 }
  }
}

extension Float: VectorMath {
  /// Cody and Waite's reduction to |r| ≤ ½ ln 2, rounded by adding a magic number, then a polynomial of degree 7 with
  /// the coefficients of the Cephes library: accurate to 1 unit in the last place over the whole range.
  @inline(__always) public static func exponential(_ x: Float) -> Float {
    let clamped = Swift.min(Swift.max(x, -87.33654), 88.72283)
    let shifted = (12_582_912 as Float).addingProduct(clamped, 1.442695)
    let n = shifted - 12_582_912
    var r = clamped.addingProduct(-n, 0.693359375)
    r = r.addingProduct(-n, -2.12194440e-4)
    var p: Float = 1.9875691500e-4
    p = (1.3981999507e-3 as Float).addingProduct(p, r)
    p = (8.3334519073e-3 as Float).addingProduct(p, r)
    p = (4.1665795894e-2 as Float).addingProduct(p, r)
    p = (1.6666665459e-1 as Float).addingProduct(p, r)
    p = (5.0000001201e-1 as Float).addingProduct(p, r)
    p = r.addingProduct(p, r * r) + 1
    // The low bits of `shifted` are n; added to the exponent, in two halves (128 does not fit), they multiply by 2ⁿ.
    let whole = Int32(bitPattern: shifted.bitPattern &- (12_582_912 as Float).bitPattern)
    let half = whole &>> 1
    let first = Float(bitPattern: UInt32(bitPattern: half &+ 127) &<< 23)
    let second = Float(bitPattern: UInt32(bitPattern: whole &- half &+ 127) &<< 23)
    return x < -87.33654 ? 0 : p * first * second
  }

  /// Φ(−|x|) = ½ e^(−z²) P(1/(1 + 0.45 z)) with z = |x|/√2, where P is a minimax fit of degree 9 to erfcx with relative
  /// error 1.9e-8. The exponential serves both results, and the lower tail keeps its digits.
  @inline(__always) public static func gaussian(_ x: Float) -> (cumulative: Float, density: Float) {
    let magnitude = Swift.min(abs(x), 13)
    let t = 1 / (1 as Float).addingProduct(magnitude, 0.31819806)
    var p: Float = -0.040938877
    p = (0.2648651 as Float).addingProduct(p, t)
    p = (-0.64879 as Float).addingProduct(p, t)
    p = (0.6787989 as Float).addingProduct(p, t)
    p = (-0.29044387 as Float).addingProduct(p, t)
    p = (0.33566293 as Float).addingProduct(p, t)
    p = (0.18696952 as Float).addingProduct(p, t)
    p = (0.26058558 as Float).addingProduct(p, t)
    p = (0.25326595 as Float).addingProduct(p, t)
    p = (2.478123e-05 as Float).addingProduct(p, t)
    let e = exponential(-0.5 * magnitude * magnitude)
    let tail = 0.5 * e * p
    return (x < 0 ? tail : 1 - tail, 0.39894228 * e)
  }

  /// Compares integers that have the order of the numbers: NaN keeps comparisons of Floats from being vectorised.
  @inline(__always) public static func largest(_ numbers: UnsafePointer<Float>, _ count: Int) -> Float {
    func mirrored(_ bits: Int32) -> Int32 { bits ^ ((bits &>> 31) & 0x7FFF_FFFF) }
    var key = mirrored(Int32(bitPattern: (-Float.infinity).bitPattern))
    for j in 0..<count {
      let other = mirrored(Int32(bitPattern: numbers[j].bitPattern))
      key = other > key ? other : key
    }
    return Float(bitPattern: UInt32(bitPattern: mirrored(key)))
  }
}
