import Dist
import Model
import Tensor

/// The tensors that a file must hold for a model, and the differences between them and a file.
struct WeightsMatch {
  /// A tensor of the file; files hold a count as an integer.
  typealias Item = (name: String, shape: Shape, isCount: Bool)

  let form: WeightsForm
  let items: [Item]
  private let activation: Activation

  /// Lists the tensors that a file of this form must hold for a model of these sizes, whose parameters and buffers are
  /// those of `store`.
  init<S: Scalar>(_ form: WeightsForm, _ config: CLIPConfig, _ store: ParameterStore<S>) {
    (self.form, activation) = (form, config.activation)
    let own = store.entries.filter { $0.owner == .model }
    items =
      own.flatMap { Self.items($0.name, $0.shape, form) }
      + store.buffers.map { (name: $0.name, shape: $0.shape, isCount: $0.isCount) }
  }

  private static func items(_ name: String, _ shape: Shape, _ form: WeightsForm) -> [Item] {
    guard form == .huggingFace, let place = HuggingFaceNames.place(of: name) else {
      return [(name: name, shape: shape, isCount: false)]
    }
    let parts = place.names.count
    var sizes: [Int] = place.isTransposed ? shape.array.reversed() : shape.array
    if parts > 1 { sizes[0] /= parts }
    return place.names.map { (name: $0, shape: Shape(sizes) ?? shape, isCount: false) }
  }

  /// Returns a message for every missing, misshapen, mistyped and unexpected tensor, and for another activation than
  /// the model's; a single one if the file has none of the model's names. A logit bias may be in the file and not in
  /// the model, or the other way round.
  func mismatches(in file: any NamedTensors) throws -> [String] {
    guard items.contains(where: { file.contains($0.name) }) else { return [otherNames(in: file)] }
    var problems: [String] = []
    for item in items where file.contains(item.name) || item.name != CLIPConfig.logitBias {
      if let problem = try problem(with: item, in: file) { problems.append(problem) }
    }
    var known = Set(items.map(\.name)).union(form == .huggingFace ? HuggingFaceNames.ignored : PyTorchFile.sizes)
    known.insert(CLIPConfig.logitBias)
    for name in file.names where !known.contains(name) && !Self.beside.contains(where: name.hasPrefix) {
      problems.append("unexpected: \(name)")
    }
    if let other = file.metadata[Self.activationKey], other != activation.rawValue {
      problems.append("activation: the weights are for \(other), the model's is \(activation.rawValue)")
    }
    return problems
  }

  /// Returns the message about a file that has none of the model's names, with what stands before them if it has all.
  private func otherNames(in file: any NamedTensors) -> String {
    let names = Set(file.names)
    let prefixes = file.names.compactMap { name in
      items.first.flatMap { name.hasSuffix(".\($0.name)") ? String(name.dropLast($0.name.count)) : nil }
    }.filter { prefix in items.allSatisfy { names.contains(prefix + $0.name) } }
    guard prefixes.isEmpty else {
      return "the names of its tensors begin with \(prefixes.joined(separator: " or ")); save them without it"
    }
    let some = file.names.prefix(3).joined(separator: ", ") + (names.count > 3 ? " and others" : "")
    return "it holds none of the model's \(items.count) tensors, such as \(items[0].name), but \(some)"
  }

  /// Returns problems as the end of a message: one on the same line, several on a line each.
  static func list(_ problems: [String]) -> String {
    problems.count == 1 ? " \(problems[0])" : "\n  " + problems.joined(separator: "\n  ")
  }

  private func problem(with item: Item, in file: any NamedTensors) throws -> String? {
    guard file.contains(item.name) else { return "missing: \(item.name) \(item.shape)" }
    let found: Shape
    do { found = try file.shape(of: item.name) } catch { return "misshapen: \(error)" }
    // Some files hold a scalar as a vector of one number.
    guard found == item.shape || (item.shape.rank == 0 && found.array == [1]) else {
      return "misshapen: \(item.name) is \(found), the model's is \(item.shape)"
    }
    let type = try file.type(of: item.name)
    return type.isFloatingPoint == item.isCount ? "of another type: \(item.name) holds \(type.rawValue)" : nil
  }

  /// The prefixes of the tensors that our files may hold in addition to the model, for training that goes on from it.
  private static let beside = [
    MergedTensor.optimizerPrefix, MergedTensor.averagePrefix, NamedSlice.Owner.objectivePrefix,
    MaskTraining<Float>.prefix,
  ]

  /// The metadata key of the activation that the weights were trained with, which cannot be seen in the weights.
  static let activationKey = "activation"

  /// Fills a vector with the elements of a parameter in a range (row-major), from a file without mismatches.
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

/// Sets `result`[j, i] to `matrix`[i, j].
func transpose<S: Scalar>(_ matrix: Tensor<S>, into result: Tensor<S>) {
  let (rows, columns) = (matrix.rows, matrix.columns)
  for row in 0..<rows { for column in 0..<columns { result[column * rows + row] = matrix[row * columns + column] } }
}
