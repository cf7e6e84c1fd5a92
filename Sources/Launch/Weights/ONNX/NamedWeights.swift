import Model
import Tensor

/// A model's parameters and running statistics by their names, which are open_clip's.
struct NamedWeights {
  private let store: ParameterStore<Float>
  private let entries: [String: NamedSlice]

  init(_ model: CLIP<Float>) {
    store = model.parameters
    entries = Dictionary(uniqueKeysWithValues: model.entries.map { ($0.name, $0) })
  }

  func contains(_ name: String) -> Bool { entries[name] != nil }

  /// Returns a parameter's value; traps if the model has no parameter of this name.
  subscript(name: String) -> Tensor<Float> {
    guard let entry = entries[name] else { preconditionFailure("the model has no \(name)") }
    return store.value(of: entry)
  }

  /// Returns a parameter, or some of its rows, which the name then has behind it.
  func weight(_ name: String, rows: Range<Int>? = nil) -> ONNXWeight {
    let value = self[name]
    guard let rows else { return ONNXWeight(name: name, shape: value.shape.array) { value.array } }
    let size = value.count / value.shape[0]
    let part = value.slice(rows.lowerBound * size..<rows.upperBound * size)
    let shape = [rows.count] + value.shape.array.dropFirst()
    return ONNXWeight(name: "\(name)[\(rows.lowerBound):\(rows.upperBound)]", shape: shape) { part.array }
  }

  /// Returns a running statistic; traps if the model has none of this name.
  func statistic(_ name: String) -> [Double] {
    guard let buffer = store.buffer(named: name) else { preconditionFailure("the model has no \(name)") }
    return store.value(of: buffer).array
  }
}
