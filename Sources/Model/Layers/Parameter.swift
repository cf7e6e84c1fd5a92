public import Tensor

/// The initial distribution of a parameter.
public enum Initial: Sendable, Equatable {
  case constant(Double)
  /// A normal distribution with mean 0 and this standard deviation.
  case normal(Double)
  /// A uniform distribution between minus and plus this bound.
  case uniform(Double)

  public static var zeros: Initial { .constant(0) }
  public static var ones: Initial { .constant(1) }
}

/// All parameters of a model in one arena, in the order of their declaration, and their gradients in a second one of
/// the same layout. Each parameter starts at a multiple of 16 scalars (64 bytes); the gaps stay 0 in every arena.
public final class ParameterStore<S: Scalar> {
  /// State of the model that is not learned, such as running statistics.
  public struct BufferEntry: Sendable {
    /// The key in open_clip's state dict.
    public let name: String
    public let shape: Shape
    /// The buffer's first number in `bufferValues`.
    public let offset: Int
    public let initial: Double
    /// True for a count, which files store as an integer.
    public let isCount: Bool
    public var range: Range<Int> { offset..<offset + shape.count }
  }

  /// The places of all parameters, in the order of their declaration.
  public private(set) var entries: [NamedSlice] = []
  /// The initial distribution of each entry.
  public private(set) var initials: [Initial] = []
  private var areOperands: [Bool] = []
  /// All buffers, in the order of their declaration.
  public private(set) var buffers: [BufferEntry] = []
  private var names: Set<String> = []
  /// The number of scalars in an arena, including gaps.
  public private(set) var count = 0
  private var held: (values: Tensor<S>, gradients: Tensor<S>?)?
  /// The parameters rounded to bf16 for products, and whether each has been rounded since `holdsValues` was set.
  fileprivate let rounded = BFloat16Buffer()
  fileprivate var isRounded: [Bool] = []
  /// True while no value changes after its first use, so that each parameter is rounded once and not for each product.
  public var holdsValues = false { didSet { for index in isRounded.indices { isRounded[index] = false } } }
  /// The values of all buffers as one vector, with the precision of S but stored as Double, in which counts are exact.
  public private(set) var bufferValues = Tensor<Double>(Shape(0))
  public init() {}

  /// Adds a parameter to the layout, before `allocate`. `isOperand` promises that forward and backward read it only as
  /// an operand of products, perhaps in another order: a tower that computes in bf16 sees only its rounded numbers.
  public func declare(_ name: String, _ shape: Shape, _ initial: Initial, isOperand: Bool = false) -> Parameter<S> {
    claim(name)
    let entry = NamedSlice(name: name, shape: shape, offset: count)
    entries.append(entry)
    initials.append(initial)
    areOperands.append(isOperand)
    count = entry.extent.upperBound
    return Parameter(store: self, index: entries.count - 1)
  }

  /// Adds a buffer to the layout. Call it before `allocate`.
  public func declareBuffer(_ name: String, _ shape: Shape, initial: Double, isCount: Bool = false) -> ModelBuffer<S> {
    claim(name)
    let offset = buffers.last?.range.upperBound ?? 0
    let entry = BufferEntry(name: name, shape: shape, offset: offset, initial: initial, isCount: isCount)
    buffers.append(entry)
    return ModelBuffer(store: self, entry: entry)
  }

  private func claim(_ name: String) {
    precondition(held == nil, "\(name) is declared after the store was allocated")
    precondition(names.insert(name).inserted, "\(name) is declared twice")
  }

  /// Allocates the arenas, or takes the caller's for the values, and sets buffers to their initial values.
  public func allocate(gradients: Bool, values: Tensor<S>? = nil) {
    let values = values ?? Tensor(Shape(count))
    precondition(values.count == count, "an arena of \(values.count) scalars for a layout of \(count)")
    held = (values, gradients ? Tensor(Shape(count)) : nil)
    isRounded = [Bool](repeating: false, count: entries.count)
    bufferValues = Tensor(Shape(buffers.last?.range.upperBound ?? 0))
    resetBuffers()
  }

  private func resetBuffers() { for buffer in buffers { fill(value(of: buffer), buffer.initial) } }

  /// All values as one vector.
  public var values: Tensor<S> {
    guard let held else { preconditionFailure("the parameters are not allocated yet") }
    return held.values
  }

  /// All gradients as one vector.
  public var gradients: Tensor<S> {
    guard let gradients = held?.gradients else { preconditionFailure("a frozen model has no gradients") }
    return gradients
  }

  /// The extents of the parameters that only matrix products read, in rising order.
  public var operandExtents: [Range<Int>] { zip(entries, areOperands).filter { $1 }.map { $0.0.extent } }
  /// The number of scalars without gaps.
  public var parameterCount: Int { entries.reduce(0) { $0 + $1.shape.count } }
  /// Returns the parameter of this open_clip key, if there is one.
  public func entry(named name: String) -> NamedSlice? { entries.first { $0.name == name } }
  /// Returns the buffer of this open_clip key, if there is one.
  public func buffer(named name: String) -> BufferEntry? { buffers.first { $0.name == name } }
  /// Returns a parameter's value in its shape, which shares the arena's memory.
  public func value(of entry: NamedSlice) -> Tensor<S> { values.slice(entry.range).reshaped(entry.shape) }
  /// Returns a parameter's gradient in its shape, which shares the arena's memory.
  public func gradient(of entry: NamedSlice) -> Tensor<S> { gradients.slice(entry.range).reshaped(entry.shape) }
  /// Returns a buffer's value in its shape, which shares the memory of all buffers.
  public func value(of entry: BufferEntry) -> Tensor<Double> { bufferValues.slice(entry.range).reshaped(entry.shape) }

  /// Draws every parameter as a function of (seed, name), independently of the rest of the model, and resets buffers.
  /// With `ranges`, only these parts of the arena are written, with the values that they would have among all.
  public func initialize(seed: UInt64, within ranges: [Range<Int>]? = nil) {
    resetBuffers()
    for (entry, initial) in zip(entries, initials) {
      for range in ranges ?? [entry.range] {
        let shared = range.clamped(to: entry.range)
        guard !shared.isEmpty else { continue }
        draw(entry, initial, seed: seed, shared.lowerBound - entry.offset..<shared.upperBound - entry.offset)
      }
    }
  }

  @specialized(where S == Float) @specialized(where S == Double)
  private func draw(_ entry: NamedSlice, _ initial: Initial, seed: UInt64, _ elements: Range<Int>) {
    let value = value(of: entry)
    var random = KeyedRandom(seed: seed, purpose: entry.name)
    func write(_ next: () -> Double) {
      for index in 0..<elements.upperBound {
        let number = S(next())
        if index >= elements.lowerBound { value[index] = number }
      }
    }
    switch initial {
    case .constant(let number): fill(value.slice(elements), S(number))
    case .normal(let deviation): write { deviation * random.normal() }
    case .uniform(let bound): write { random.uniform(from: -bound, to: bound) }
    }
  }
}

/// A named tensor of a model that is learned.
public struct Parameter<S: Scalar> {
  let store: ParameterStore<S>
  let index: Int
  public var name: String { store.entries[index].name }
  public var shape: Shape { store.entries[index].shape }
  /// The range in every arena of the layout, including the gap after it.
  public var extent: Range<Int> { store.entries[index].extent }
  public var value: Tensor<S> { store.value(of: store.entries[index]) }
  public var gradient: Tensor<S> { store.gradient(of: store.entries[index]) }

  /// Returns the value in the precision of `other`, rounded on each call unless the store holds its values.
  func operand(like other: MatrixOperand<S>) -> MatrixOperand<S> {
    guard other.precision == .bf16 else { return .fp32(value) }
    if store.holdsValues, store.isRounded[index] { return kept(like: other) }
    store.isRounded[index] = true
    return store.rounded.operand(value, other.precision, at: extent.lowerBound, of: store.count)
  }

  /// Returns the operand of the last call of `operand`, so that backward multiplies by the same numbers as forward.
  func kept(like other: MatrixOperand<S>) -> MatrixOperand<S> {
    store.rounded.kept(value, other.precision, at: extent.lowerBound, of: store.count)
  }
}

/// A named tensor of a model that is not learned.
public struct ModelBuffer<S: Scalar> {
  let store: ParameterStore<S>
  let entry: ParameterStore<S>.BufferEntry
  public var value: Tensor<Double> { store.value(of: entry) }
}
