public import Tensor

/// Two linear maps with an activation f between: c_proj(f(c_fc(x))), [n, w] → [n, hidden] → [n, w].
public struct MLP<S: Scalar> {
  public let expand: Linear<S>
  public let contract: Linear<S>
  public let activation: Activation
  let hidden: Int

  /// Backward needs, besides the input, the activation's derivative and its output, both [n, hidden].
  public final class Activations {
    /// If the output is not kept, this is c_fc(x) without its bias, from which backward computes both.
    let derivative = MatrixOperandBuffer<S>()
    let active: MatrixOperandBuffer<S>
    let keepsActive: Bool

    /// If `active` is given, other layers use it too, and backward computes the output again.
    init(active: MatrixOperandBuffer<S>? = nil) {
      (self.active, keepsActive) = (active ?? MatrixOperandBuffer(), active == nil)
    }
  }

  public init(
    _ store: ParameterStore<S>, name: String, width: Int, hidden: Int, activation: Activation,
    expand: (Initial, Initial), contract: (Initial, Initial)
  ) {
    (self.activation, self.hidden) = (activation, hidden)
    self.expand = Linear(store, prefix: "\(name).c_fc.", from: width, to: hidden, expand, isOperand: true)
    self.contract = Linear(store, prefix: "\(name).c_proj.", from: hidden, to: width, contract, isOperand: true)
  }

  /// y = residual + c_proj(f(c_fc(x))), for x, residual and y [n, w].
  public func forward(_ x: MatrixOperand<S>, adding residual: Tensor<S>, into y: Tensor<S>, activations: Activations) {
    contract.forward(expanded(x, activations: activations), adding: residual, into: y)
  }

  /// Returns f(c_fc(x)) and stores what backward needs of it.
  func expanded(_ x: MatrixOperand<S>, activations: Activations) -> MatrixOperand<S> {
    let h = activations.derivative.operand(Shape(x.rows, hidden), x.precision)
    matmul(x, expand.weight.operand(like: x), into: h, transposeB: true)
    return activated(h, activations, differentiating: activations.keepsActive)
  }

  /// Returns the activation's output, given c_fc(x) without its bias, which the derivative replaces.
  private func activated(
    _ h: MatrixOperand<S>, _ activations: Activations, differentiating: Bool = true
  ) -> MatrixOperand<S> {
    let active = activations.active.operand(h.shape, h.precision)
    biasActivation(h, bias: expand.bias.value, activation, into: active, differentiating: differentiating)
    return active
  }

  /// Writes dx, the gradient through the MLP alone, and adds to the parameters' gradients; once for each forward.
  public func backward(
    _ dy: MatrixOperand<S>, x: MatrixOperand<S>, activations: Activations, dx: Tensor<S>, workspace: Workspace<S>
  ) {
    let shape = Shape(x.rows, hidden)
    let derivative = activations.derivative.operand(shape, x.precision)
    let active =
      activations.keepsActive ? activations.active.operand(shape, x.precision) : activated(derivative, activations)
    let dh = workspace.wide.operand(shape, x.precision)
    contract.backward(dy, x: active, dx: dh)
    biasActivationBackward(dh, derivative: derivative, dbias: expand.bias.gradient)
    matmul(dh, x, into: expand.weight.gradient, transposeA: true, accumulate: true)
    matmul(dh, expand.weight.kept(like: x), into: dx)
  }
}
