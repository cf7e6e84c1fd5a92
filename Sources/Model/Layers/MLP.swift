public import Tensor

/// Two linear maps with an activation between: [n, w] → [n, hidden] → [n, w].
public struct MLP<S: Scalar> {
  public let expand: Linear<S>
  public let contract: Linear<S>
  public let activation: Activation
  let hidden: Int

  /// What backward needs beside the input: the activation's derivative and its output, both [n, hidden].
  public final class Saved {
    let derivative = Buffer<S>()
    let active = OperandBuffer<S>()
    public init() {}
  }

  public init(
    _ store: ParameterStore<S>, name: String, width: Int, hidden: Int, activation: Activation,
    expand: (weight: Initial, bias: Initial), contract: (weight: Initial, bias: Initial)
  ) {
    self.activation = activation
    self.hidden = hidden
    self.expand = Linear(
      weight: store.declare("\(name).c_fc.weight", Shape(hidden, width), expand.weight),
      bias: store.declare("\(name).c_fc.bias", Shape(hidden), expand.bias))
    self.contract = Linear(
      weight: store.declare("\(name).c_proj.weight", Shape(width, hidden), contract.weight),
      bias: store.declare("\(name).c_proj.bias", Shape(width), contract.bias))
  }

  /// y = residual + c_proj(f(c_fc(x))).
  public func forward(
    _ x: Operand<S>, adding residual: Tensor<S>, into y: Tensor<S>, saved: Saved, workspace: Workspace<S>
  ) {
    let shape = Shape(x.rows, hidden)
    let h = saved.derivative.tensor(shape)
    let active = saved.active.place(shape, x.precision, scratch: workspace.wide)
    matmul(x, expand.weight.operand(like: x), into: h, transposeB: true)
    biasActivation(h, bias: expand.bias.value, activation, into: active)
    contract.forward(saved.active.keep(active, x.precision), adding: residual, into: y)
  }

  /// Writes dx, the gradient by way of the MLP alone; adds to the parameters' gradients.
  public func backward(_ dy: Tensor<S>, x: Operand<S>, saved: Saved, dx: Tensor<S>, workspace: Workspace<S>) {
    let shape = Shape(x.rows, hidden)
    let dh = workspace.wide.tensor(shape)
    contract.backward(dy, x: saved.active.kept(shape, x.precision), dx: dh, rounding: workspace.rounding)
    biasActivationBackward(dh, derivative: saved.derivative.tensor(shape), dbias: expand.bias.gradient)
    let slope = workspace.rounding.operand(dh, x.precision)
    matmul(slope, x, into: expand.weight.gradient, transposeA: true, accumulate: true)
    matmul(slope, expand.weight.kept(like: x), into: dx)
  }
}
