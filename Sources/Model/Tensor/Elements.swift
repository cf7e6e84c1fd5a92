internal import RealModule

typealias Pointer<S> = UnsafeMutablePointer<S>

/// The elements of a matrix of scalars or of bfloat16 numbers; a kernel's source serves both and computes in `Number`.
protocol Elements<Number> {
  associatedtype Number: Scalar
  associatedtype Stored

  var base: Pointer<Stored> { get }
  init(_ base: Pointer<Stored>)
  /// Reads a matrix of this storage; traps for the other one.
  init(_ x: MatrixOperand<Number>)
  subscript(index: Int) -> Number { get nonmutating set }

  /// Writes `count` numbers, unless they are in place already.
  func take(_ numbers: Pointer<Number>, _ count: Int)

  /// Returns `count` columns of a row. Like all functions of panels it requires that `Number` is Float.
  func panel(at index: Int, _ count: Int) -> Panel
  func take(_ panel: Panel, at index: Int, _ count: Int)
  /// Converts Floats to the column order of these elements' panels, and back.
  static func panel(of columns: UnsafePointer<Float>, _ count: Int) -> Panel
  static func put(_ panel: Panel, into columns: Pointer<Float>, _ count: Int)

  /// C = op(A) op(B), where C is a matrix of numbers, or is stored as A and B are.
  static func multiply(_ product: GEMM, _ a: Self, _ b: Self, into c: Pointer<Number>)
  static func multiply(_ product: GEMM, _ a: Self, _ b: Self, into c: Self)
}

extension Elements {
  @inline(__always) func advanced(by count: Int) -> Self { Self(base + count) }
  /// Returns whether both begin at the same address.
  @inline(__always) func isSame(as other: Self) -> Bool { base == other.base }

  /// Returns Σ_j a_j b_j. It is a function of its own because the sum is not vectorised within a large kernel.
  @inline(never)
  static func dot(_ a: Self, _ b: Self, _ count: Int) -> Number {
    var sum: Number = 0
    for j in 0..<count { sum = Relaxed.multiplyAdd(a[j], b[j], sum) }
    return sum
  }
}

struct FP32Elements<Number: Scalar>: Elements {
  let base: Pointer<Number>
  init(_ base: Pointer<Number>) { self.base = base }
  init(_ x: MatrixOperand<Number>) {
    guard case .fp32(let x) = x else { preconditionFailure("a bf16 matrix of \(x.shape) beside fp32 ones") }
    base = x.pointer
  }

  @inline(__always) subscript(index: Int) -> Number {
    get { base[index] }
    nonmutating set { base[index] = newValue }
  }

  @inline(__always) func take(_ numbers: Pointer<Number>, _ count: Int) {
    if base != numbers { base.update(from: numbers, count: count) }
  }

  @inline(__always) func panel(at index: Int, _ count: Int) -> Panel { Panel(floats(base) + index, count) }
  @inline(__always) func take(_ panel: Panel, at index: Int, _ count: Int) { panel.store(floats(base) + index, count) }
  @inline(__always) static func panel(of columns: UnsafePointer<Float>, _ count: Int) -> Panel { Panel(columns, count) }
  @inline(__always) static func put(_ panel: Panel, into columns: Pointer<Float>, _ count: Int) {
    panel.store(columns, count)
  }

  static func multiply(_ product: GEMM, _ a: Self, _ b: Self, into c: Pointer<Number>) {
    Number.multiply(product, alpha: 1, a.base, b.base, beta: 0, c)
  }
  static func multiply(_ product: GEMM, _ a: Self, _ b: Self, into c: Self) { multiply(product, a, b, into: c.base) }
}

struct BFloat16Elements<Number: Scalar>: Elements {
  let base: Pointer<UInt16>
  init(_ base: Pointer<UInt16>) { self.base = base }
  init(_ x: MatrixOperand<Number>) {
    guard case .bf16(let x) = x else { preconditionFailure("an fp32 matrix of \(x.shape) beside bf16 ones") }
    base = x.pointer
  }

  @inline(__always) subscript(index: Int) -> Number {
    get { Number(Float(bitPattern: UInt32(base[index]) &<< 16)) }
    nonmutating set { base[index] = bfloat16(newValue) }
  }

  @inline(__always) func take(_ numbers: Pointer<Number>, _ count: Int) {
    for j in 0..<count { base[j] = bfloat16(numbers[j]) }
  }

  @inline(__always) func panel(at index: Int, _ count: Int) -> Panel { Panel(rounded: base + index, count) }
  @inline(__always) func take(_ panel: Panel, at index: Int, _ count: Int) { panel.store(rounded: base + index, count) }
  @inline(__always) static func panel(of columns: UnsafePointer<Float>, _ count: Int) -> Panel {
    Panel(inOrderOfRounded: columns, count)
  }
  @inline(__always) static func put(_ panel: Panel, into columns: Pointer<Float>, _ count: Int) {
    panel.store(fromOrderOfRounded: columns, count)
  }

  static func multiply(_ product: GEMM, _ a: Self, _ b: Self, into c: Pointer<Number>) {
    Number.multiply(RoundedProduct(gemm: product, a: a.base, b: b.base, c: c))
  }
  static func multiply(_ product: GEMM, _ a: Self, _ b: Self, into c: Self) {
    Number.multiply(RoundedProduct(gemm: product, a: a.base, b: b.base, c: c.base, rounds: true))
  }
}

/// Returns x as bfloat16, the upper half of a Float, rounded to nearest, ties to even; NaN stays NaN.
@inline(__always) func bfloat16<S: Scalar>(_ x: S) -> UInt16 {
  let bits = Float(x).bitPattern
  let nearest = (bits &+ 0x7FFF &+ ((bits &>> 16) & 1)) &>> 16
  // The addition would carry a NaN's bits into the sign.
  return UInt16(truncatingIfNeeded: bits & 0x7FFF_FFFF > 0x7F80_0000 ? (bits &>> 16) | 0x40 : nearest)
}

/// Views scalars as Floats, which they must be.
@inline(__always) func floats<S: Scalar>(_ p: Pointer<S>) -> Pointer<Float> {
  UnsafeMutableRawPointer(p).assumingMemoryBound(to: Float.self)
}
