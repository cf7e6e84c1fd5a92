internal import RealModule

/// How a kernel reads and writes a matrix, exact or rounded, element by element: the same source serves both.
///
/// Whatever is stored, kernels compute in `Number`.
protocol Elements<Number> {
  associatedtype Number: Scalar

  /// A matrix that is kept in this way; of any other the program is wrong.
  init(_ x: Operand<Number>)

  subscript(index: Int) -> Number { get nonmutating set }
  func advanced(by count: Int) -> Self
  /// Whether both begin at the same place.
  func isSame(as other: Self) -> Bool

  /// Writes `count` numbers, nothing where they are in place already.
  func take(_ numbers: UnsafeMutablePointer<Number>, _ count: Int)

  /// Some columns of a row, of numbers that are Floats.
  func panel(at index: Int, _ count: Int) -> Panel
  func take(_ panel: Panel, at index: Int, _ count: Int)
  /// Exact columns in the order that panels of these elements have, and back.
  static func panel(of columns: UnsafePointer<Float>, _ count: Int) -> Panel
  static func put(_ panel: Panel, into columns: UnsafeMutablePointer<Float>, _ count: Int)

  /// C = op(A) op(B) on row-major memory with leading dimensions.
  static func multiply(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: Self, _ lda: Int, _ b: Self, _ ldb: Int,
    into c: UnsafeMutablePointer<Number>, _ ldc: Int)

  /// The same into a matrix that is stored as A and B are.
  static func multiply(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: Self, _ lda: Int, _ b: Self, _ ldb: Int,
    into c: Self, _ ldc: Int)
}

extension Elements {
  /// Σ a_j b_j, in a function of its own: within a large kernel the sum is left one number at a time.
  @inline(never)
  static func dot(_ a: Self, _ b: Self, _ count: Int) -> Number {
    var sum: Number = 0
    for j in 0..<count { sum = Relaxed.multiplyAdd(a[j], b[j], sum) }
    return sum
  }
}

struct ExactElements<Number: Scalar>: Elements {
  let base: UnsafeMutablePointer<Number>

  init(_ base: UnsafeMutablePointer<Number>) { self.base = base }
  init(_ x: Tensor<Number>) { base = x.pointer }

  init(_ x: Operand<Number>) {
    guard case .exact(let x) = x else { preconditionFailure("a rounded matrix of \(x.shape) beside exact ones") }
    base = x.pointer
  }

  @inline(__always)
  subscript(index: Int) -> Number {
    get { base[index] }
    nonmutating set { base[index] = newValue }
  }

  @inline(__always)
  func advanced(by count: Int) -> ExactElements { ExactElements(base + count) }

  @inline(__always)
  func isSame(as other: ExactElements) -> Bool { base == other.base }

  @inline(__always)
  func take(_ numbers: UnsafeMutablePointer<Number>, _ count: Int) {
    if base != numbers { base.update(from: numbers, count: count) }
  }

  @inline(__always)
  func panel(at index: Int, _ count: Int) -> Panel { Panel(floats(base) + index, count) }

  @inline(__always)
  func take(_ panel: Panel, at index: Int, _ count: Int) { panel.store(floats(base) + index, count) }

  @inline(__always)
  static func panel(of columns: UnsafePointer<Float>, _ count: Int) -> Panel { Panel(columns, count) }

  @inline(__always)
  static func put(_ panel: Panel, into columns: UnsafeMutablePointer<Float>, _ count: Int) {
    panel.store(columns, count)
  }

  static func multiply(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: ExactElements, _ lda: Int,
    _ b: ExactElements, _ ldb: Int, into c: UnsafeMutablePointer<Number>, _ ldc: Int
  ) {
    Number.multiply(
      transposeA: transposeA, transposeB: transposeB, m, n, k, alpha: 1, a.base, lda, b.base, ldb, beta: 0, c, ldc)
  }

  static func multiply(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: ExactElements, _ lda: Int,
    _ b: ExactElements, _ ldb: Int, into c: ExactElements, _ ldc: Int
  ) {
    multiply(transposeA: transposeA, transposeB: transposeB, m, n, k, a, lda, b, ldb, into: c.base, ldc)
  }
}

struct RoundedElements<Number: Scalar>: Elements {
  let base: UnsafeMutablePointer<UInt16>

  init(_ base: UnsafeMutablePointer<UInt16>) { self.base = base }
  init(_ x: Rounded) { base = x.pointer }

  init(_ x: Operand<Number>) {
    guard case .rounded(let x) = x else { preconditionFailure("an exact matrix of \(x.shape) beside rounded ones") }
    base = x.pointer
  }

  @inline(__always)
  subscript(index: Int) -> Number {
    get { Number(Float(bitPattern: UInt32(base[index]) &<< 16)) }
    nonmutating set { base[index] = bfloat16(newValue) }
  }

  @inline(__always)
  func advanced(by count: Int) -> RoundedElements { RoundedElements(base + count) }

  @inline(__always)
  func isSame(as other: RoundedElements) -> Bool { base == other.base }

  @inline(__always)
  func take(_ numbers: UnsafeMutablePointer<Number>, _ count: Int) {
    for j in 0..<count { base[j] = bfloat16(numbers[j]) }
  }

  @inline(__always)
  func panel(at index: Int, _ count: Int) -> Panel { Panel(rounded: base + index, count) }

  @inline(__always)
  func take(_ panel: Panel, at index: Int, _ count: Int) { panel.store(rounded: base + index, count) }

  @inline(__always)
  static func panel(of columns: UnsafePointer<Float>, _ count: Int) -> Panel {
    Panel(inOrderOfRounded: columns, count)
  }

  @inline(__always)
  static func put(_ panel: Panel, into columns: UnsafeMutablePointer<Float>, _ count: Int) {
    panel.store(fromOrderOfRounded: columns, count)
  }

  static func multiply(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: RoundedElements, _ lda: Int,
    _ b: RoundedElements, _ ldb: Int, into c: UnsafeMutablePointer<Number>, _ ldc: Int
  ) {
    Number.multiplyRounded(
      transposeA: transposeA, transposeB: transposeB, m, n, k, a.base, lda, b.base, ldb, bias: nil, accumulate: false,
      c, ldc)
  }

  static func multiply(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: RoundedElements, _ lda: Int,
    _ b: RoundedElements, _ ldb: Int, into c: RoundedElements, _ ldc: Int
  ) {
    Number.multiplyRounded(
      transposeA: transposeA, transposeB: transposeB, m, n, k, a.base, lda, b.base, ldb, bias: nil, c.base, ldc)
  }
}

/// The upper half of x as a Float, rounded to nearest, ties to even; what is not a number stays so.
@inline(__always)
func bfloat16<S: Scalar>(_ x: S) -> UInt16 {
  let bits = Float(x).bitPattern
  let nearest = (bits &+ 0x7FFF &+ ((bits &>> 16) & 1)) &>> 16
  // Adding would carry a NaN's bits into the sign.
  return UInt16(truncatingIfNeeded: bits & 0x7FFF_FFFF > 0x7F80_0000 ? (bits &>> 16) | 0x40 : nearest)
}

/// Numbers that are Floats, as such.
@inline(__always)
func floats<S: Scalar>(_ p: UnsafeMutablePointer<S>) -> UnsafeMutablePointer<Float> {
  UnsafeMutableRawPointer(p).assumingMemoryBound(to: Float.self)
}
