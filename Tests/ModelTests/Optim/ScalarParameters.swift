import Model
import Tensor

/// Single numbers under AdamW, each its own parameter; the last is a logit scale. Those that decay are matrices of one
/// element, because only matrices decay.
struct Scalars {
  private let store = ParameterStore<Double>()
  private let parameters: [Parameter<Double>]
  private let optimizer: AdamW<Double>
  private let clamp: ClosedRange<Double>

  init(_ run: ScheduleGoldenTests.Golden.Scalars) {
    let store = store
    parameters = zip(run.initial.indices, run.decayed).map { index, decayed in
      store.declare(
        index == run.initial.count - 1 ? "logit_scale" : "number\(index)", decayed ? Shape(1, 1) : Shape(), .zeros)
    }
    store.allocate(gradients: true)
    for (parameter, number) in zip(parameters, run.initial) { parameter.value[0] = number }
    optimizer = AdamW(
      store, .init(decay: run.weightDecay, beta1: run.betas[0], beta2: run.betas[1], epsilon: run.eps))
    clamp = run.clamp[0]...run.clamp[1]
  }

  func update(_ gradients: [Double], learningRate: Double) {
    for (parameter, gradient) in zip(parameters, gradients) { parameter.gradient[0] = gradient }
    optimizer.update(store.values, gradient: store.gradients, learningRate: learningRate)
    guard let last = parameters.last else { return }
    last.value[0] = min(max(last.value[0], clamp.lowerBound), clamp.upperBound)
  }

  var values: [Double] { parameters.map { $0.value[0] } }
}
