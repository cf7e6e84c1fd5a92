import Tensor
import TestSupport

@testable import Model

extension ParameterStore {
  /// Sets all parameters, including norms' weights and biases, to numbers of order 1, so that no gradient is small by
  /// accident.
  func shake() {
    for entry in entries {
      let value = value(of: entry)
      copy(Tensor<S>.random(entry.shape, entry.name, bound: 0.8), into: value)
      if entry.name.contains("ln_") && entry.name.hasSuffix("weight") {
        for index in 0..<value.count { value[index] += 1 }
      }
    }
  }
}

extension ParameterStore<Double> {
  /// Every parameter, as the gradient check takes them.
  var variables: [GradientCheck.Variable] {
    entries.map { .init($0.name, value(of: $0), gradient: gradient(of: $0)) }
  }
}
