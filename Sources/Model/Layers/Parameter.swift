public import Tensor

/// How a parameter starts.
public enum Initial: Sendable, Equatable {
  case constant(Double)
  /// Normal with mean 0 and this standard deviation.
  case normal(Double)
  /// Uniform between minus and plus this bound.
  case uniform(Double)

  public static var zeros: Initial { .constant(0) }
  public static var ones: Initial { .constant(1) }
}

/// All parameters of a model in one arena, in the order in which layers declare them, and their gradients in a second
/// arena of the same layout.
///
/// Layers declare first; `allocate` then lays out. Each parameter begins at a multiple of 16 scalars (64 bytes), so
/// there are gaps, which stay zero in every arena of this layout.
public final class ParameterStore<S: Scalar> {
  /// State that is not learned but belongs to the model: running statistics.
  public struct BufferEntry: Sendable {
    /// The key in open_clip's state dict.
    public let name: String
    public let shape: Shape
    /// Where the buffer begins in `bufferValues`.
    public let offset: Int
    public let initial: Double
    /// Whether it counts something, and files have it as an integer.
    public let isCount: Bool

    public var range: Range<Int> { offset..<offset + shape.count }
  }

  public private(set) var entries: [NamedSlice] = []
  /// How each of the entries starts.
  public private(set) var initials: [Initial] = []
  public private(set) var buffers: [BufferEntry] = []
  private var names: Set<String> = []
  /// Scalars in an arena of this layout, gaps included.
  public private(set) var count = 0
  private var held: (values: Tensor<S>, gradients: Tensor<S>?)?
  /// Parameters rounded for products, each at its place in the layout; without memory until one is.
  fileprivate let rounded = BFloat16Buffer()
  /// Of each entry, whether that has happened since values began to be held.
  fileprivate var isRounded: [Bool] = []
  /// Whether no value changes from its first reading on: then a parameter is rounded for products at that, and not each
  /// time.
  public var holdsValues = false {
    didSet { for index in isRounded.indices { isRounded[index] = false } }
  }
  /// The values of all buffers as one vector, of the precision of S but held in Double, where any count has room.
  public private(set) var bufferValues = Tensor<Double>(Shape(0))

  public init() {}

  /// Adds a parameter to the layout; before `allocate`.
  public func declare(_ name: String, _ shape: Shape, _ initial: Initial) -> Parameter<S> {
    precondition(held == nil, "\(name) is declared after the store was allocated")
    precondition(names.insert(name).inserted, "\(name) is declared twice")
    entries.append(NamedSlice(name: name, shape: shape, offset: count))
    initials.append(initial)
    count = entries[entries.count - 1].extent.upperBound
    return Parameter(store: self, index: entries.count - 1)
  }

  /// Adds a buffer to the layout; before `allocate`.
  public func declareBuffer(
    _ name: String, _ shape: Shape, initial: Double, isCount: Bool = false
  ) -> ModelBuffer<S> {
    precondition(held == nil, "\(name) is declared after the store was allocated")
    precondition(names.insert(name).inserted, "\(name) is declared twice")
    let offset = buffers.last?.range.upperBound ?? 0
    buffers.append(BufferEntry(name: name, shape: shape, offset: offset, initial: initial, isCount: isCount))
    return ModelBuffer(store: self, index: buffers.count - 1)
  }

  /// Makes the arenas; buffers begin with their initial values. A frozen model has no gradients. `values` may be memory
  /// that somebody else holds.
  public func allocate(gradients: Bool, values: Tensor<S>? = nil) {
    let values = values ?? Tensor(Shape(count))
    precondition(values.count == count, "an arena of \(values.count) scalars for a layout of \(count)")
    held = (values, gradients ? Tensor(Shape(count)) : nil)
    isRounded = [Bool](repeating: false, count: entries.count)
    bufferValues = Tensor(Shape(buffers.last?.range.upperBound ?? 0))
    resetBuffers()
  }

  /// Gives every buffer its initial value.
  private func resetBuffers() {
    for buffer in buffers { fill(value(of: buffer), buffer.initial) }
  }

  /// All values, as one vector.
  public var values: Tensor<S> {
    guard let held else { preconditionFailure("the parameters are not allocated yet") }
    return held.values
  }

  /// All gradients, as one vector.
  public var gradients: Tensor<S> {
    guard let gradients = held?.gradients else { preconditionFailure("a frozen model has no gradients") }
    return gradients
  }

  /// Scalars that are parameters, gaps left out.
  public var parameterCount: Int { entries.reduce(0) { $0 + $1.shape.count } }

  public func entry(named name: String) -> NamedSlice? { entries.first { $0.name == name } }
  public func buffer(named name: String) -> BufferEntry? { buffers.first { $0.name == name } }

  public func value(of entry: NamedSlice) -> Tensor<S> { values.slice(entry.range).reshaped(entry.shape) }
  public func gradient(of entry: NamedSlice) -> Tensor<S> { gradients.slice(entry.range).reshaped(entry.shape) }

  public func value(of buffer: BufferEntry) -> Tensor<Double> {
    bufferValues.slice(buffer.range).reshaped(buffer.shape)
  }

  /// Draws every parameter anew: a function of (seed, name), whatever else the model has. Buffers begin again.
  /// With `ranges`, only these parts of the arena are written, with what they would get among all.
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

  @specialized(where S == Float)
  @specialized(where S == Double)
  private func draw(_ entry: NamedSlice, _ initial: Initial, seed: UInt64, _ elements: Range<Int>) {
    let value = value(of: entry)
    var random = KeyedRandom(seed: seed, purpose: entry.name)
    switch initial {
    case .constant(let number): fill(value.slice(elements), S(number))
    case .normal(let deviation):
      for index in 0..<elements.upperBound {
        let number = S(deviation * random.normal())
        if index >= elements.lowerBound { value[index] = number }
      }
    case .uniform(let bound):
      for index in 0..<elements.upperBound {
        let number = S(random.uniform(from: -bound, to: bound))
        if index >= elements.lowerBound { value[index] = number }
      }
    }
  }
}

/// One named tensor of a model that is learned.
public struct Parameter<S: Scalar> {
  let store: ParameterStore<S>
  let index: Int

  public var name: String { store.entries[index].name }
  public var shape: Shape { store.entries[index].shape }
  /// Its place in every arena of the layout, with the gap behind it.
  public var extent: Range<Int> { store.entries[index].extent }
  public var value: Tensor<S> { store.value(of: store.entries[index]) }
  public var gradient: Tensor<S> { store.gradient(of: store.entries[index]) }

  /// The value as a product with such an operand reads it: rounded now, for it may have changed since the last time,
  /// unless the store holds its values.
  func operand(like other: MatrixOperand<S>) -> MatrixOperand<S> {
    guard other.precision == .bf16 else { return .fp32(value) }
    if store.holdsValues, store.isRounded[index] { return kept(like: other) }
    store.isRounded[index] = true
    return store.rounded.operand(value, other.precision, at: extent.lowerBound, of: store.count)
  }

  /// What `operand` last gave: backward multiplies by what forward did.
  func kept(like other: MatrixOperand<S>) -> MatrixOperand<S> {
    store.rounded.kept(value, other.precision, at: extent.lowerBound, of: store.count)
  }
}

/// One named tensor of a model that is kept but not learned.
public struct ModelBuffer<S: Scalar> {
  let store: ParameterStore<S>
  let index: Int

  public var name: String { store.buffers[index].name }
  public var value: Tensor<Double> { store.value(of: store.buffers[index]) }
}
