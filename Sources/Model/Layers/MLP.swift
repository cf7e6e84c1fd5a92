public import Tensor

/// Two linear maps with an activation between: [n, w] → [n, hidden] → [n, w].
public struct MLP<S: Scalar> {
  public let expand: Linear<S>
  public let contract: Linear<S>
  public let activation: Activation
  let hidden: Int

  /// What backward needs beside the input: the activation's derivative and its output, both [n, hidden].
  public final class Saved {
    /// Where the output is not kept, c_fc(x) without its bias, of which backward makes both.
    let derivative = OperandBuffer<S>()
    let active: OperandBuffer<S>
    let keepsActive: Bool

    public convenience init() { self.init(active: nil) }

    /// With memory that others use too, the output is made again.
    init(active: OperandBuffer<S>?) {
      self.active = active ?? OperandBuffer()
      keepsActive = active == nil
    }
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
  public func forward(_ x: Operand<S>, adding residual: Tensor<S>, into y: Tensor<S>, saved: Saved) {
    contract.forward(expanded(x, saved: saved), adding: residual, into: y)
  }

  /// f(c_fc(x)), with what backward needs of it.
  func expanded(_ x: Operand<S>, saved: Saved) -> Operand<S> {
    let shape = Shape(x.rows, hidden)
    let h = saved.derivative.operand(shape, x.precision)
    matmul(x, expand.weight.operand(like: x), into: h, transposeB: true)
    guard saved.keepsActive else {
      let active = saved.active.operand(shape, x.precision)
      activate(h, bias: expand.bias.value, activation, into: active)
      return active
    }
    return activated(h, saved)
  }

  /// The activation's output, given c_fc(x) without its bias, in whose place its derivative comes.
  private func activated(_ h: Operand<S>, _ saved: Saved) -> Operand<S> {
    let active = saved.active.operand(h.shape, h.precision)
    biasActivation(h, bias: expand.bias.value, activation, into: active)
    return active
  }

  /// Writes dx, the gradient by way of the MLP alone; adds to the parameters' gradients. Once for each forward.
  public func backward(_ dy: Operand<S>, x: Operand<S>, saved: Saved, dx: Tensor<S>, workspace: Workspace<S>) {
    let shape = Shape(x.rows, hidden)
    let derivative = saved.derivative.operand(shape, x.precision)
    let active = saved.keepsActive ? saved.active.operand(shape, x.precision) : activated(derivative, saved)
    let dh = workspace.wide.operand(shape, x.precision)
    contract.backward(dy, x: active, dx: dh)
    biasActivationBackward(dh, derivative: derivative, dbias: expand.bias.gradient)
    matmul(dh, x, into: expand.weight.gradient, transposeA: true, accumulate: true)
    matmul(dh, expand.weight.kept(like: x), into: dx)
  }
}
