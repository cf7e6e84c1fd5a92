import Dist
import Model
import Tensor

/// Which tensors of a file make a model's, and everything in which the file differs from that.
struct WeightsMatch {
  /// A tensor that the file must have.
  struct Item {
    let name: String
    let shape: Shape
    /// Whether it counts something, and is an integer.
    let isCount: Bool
  }

  let form: WeightsForm
  let items: [Item]
  private let activation: Activation

  /// What a file of this form must have for a model of this config, whose parameters and buffers `store` names.
  init<S: Scalar>(_ form: WeightsForm, _ config: CLIPConfig, _ store: ParameterStore<S>) {
    self.form = form
    activation = config.activation
    let own = store.entries.filter { !$0.name.hasPrefix(Objective<S>.prefix) }
    items =
      own.flatMap { Self.items($0.name, $0.shape, form) }
      + store.buffers.map { Item(name: $0.name, shape: $0.shape, isCount: $0.isCount) }
  }

  private static func items(_ name: String, _ shape: Shape, _ form: WeightsForm) -> [Item] {
    guard form == .huggingFace, let place = HuggingFaceNames.place(of: name) else {
      return [Item(name: name, shape: shape, isCount: false)]
    }
    let parts = place.names.count
    var sizes: [Int] = place.isTransposed ? shape.array.reversed() : shape.array
    if parts > 1 { sizes[0] /= parts }
    return place.names.map { Item(name: $0, shape: Shape(sizes) ?? shape, isCount: false) }
  }

  /// Every missing, misshapen, mistyped and unexpected tensor, and an activation that is not the model's.
  func mismatches(in file: any NamedTensors) throws -> [String] {
    var problems: [String] = []
    for item in items {
      guard file.contains(item.name) else {
        problems.append("missing: \(item.name) \(item.shape)")
        continue
      }
      do {
        let found = try file.shape(of: item.name)
        // Some files have a single number in a vector.
        guard found == item.shape || (item.shape.rank == 0 && found.array == [1]) else {
          problems.append("misshapen: \(item.name) is \(found), the model's is \(item.shape)")
          continue
        }
      } catch {
        problems.append("misshapen: \(error)")
        continue
      }
      let type = try file.type(of: item.name)
      if type.isFloatingPoint == item.isCount {
        problems.append("of another type: \(item.name) holds \(type.rawValue)")
      }
    }
    let known = Set(items.map(\.name)).union(form == .huggingFace ? HuggingFaceNames.ignored : [])
    problems += file.names.filter { name in !known.contains(name) && !Self.beside.contains { name.hasPrefix($0) } }.map
    { "unexpected: \($0)" }
    if let other = file.metadata[Self.activationKey], other != activation.rawValue {
      problems.append("activation: the weights are for \(other), the model's is \(activation.rawValue)")
    }
    return problems
  }

  /// What the names of tensors begin with that files of ours may have beside the model: what training on from it needs.
  private static let beside = [
    MergedTensor.optimizerPrefix, MergedTensor.averagePrefix, Objective<Float>.prefix, MaskTraining<Float>.prefix,
  ]

  /// Where files of ours say for which activation the weights are: their numbers do not tell.
  static let activationKey = "activation"

  /// Fills a vector with some of a parameter's numbers, row-major, from a file that matches.
  func read<S: Scalar>(
    _ name: String, _ shape: Shape, _ elements: Range<Int>, from file: any NamedTensors, into values: Tensor<S>
  ) throws {
    guard form == .huggingFace, let place = HuggingFaceNames.place(of: name) else {
      return try file.read(name, elements: elements, into: values)
    }
    if place.isTransposed {
      let theirs = Tensor<S>(Shape(shape[1], shape[0]))
      try file.read(place.names[0], into: theirs)
      let ours = Tensor<S>(shape)
      transpose(theirs, into: ours)
      copy(ours.slice(elements), into: values)
    } else {
      let part = shape.count / place.names.count
      for (index, name) in place.names.enumerated() {
        let shared = elements.clamped(to: index * part..<(index + 1) * part)
        guard !shared.isEmpty else { continue }
        try file.read(
          name, elements: shared.lowerBound - index * part..<shared.upperBound - index * part,
          into: values.slice(shared.lowerBound - elements.lowerBound..<shared.upperBound - elements.lowerBound))
      }
    }
  }
}

/// `result`[j, i] = `matrix`[i, j].
func transpose<S: Scalar>(_ matrix: Tensor<S>, into result: Tensor<S>) {
  let (rows, columns) = (matrix.rows, matrix.columns)
  for row in 0..<rows {
    for column in 0..<columns { result[column * rows + row] = matrix[row * columns + column] }
  }
}
