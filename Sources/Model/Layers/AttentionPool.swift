public import Tensor

/// Attention pooling of a ResNet's points [b · points, c] to features [b, e], as in open_clip's AttentionPool2d. The
/// mean of an image's points precedes them as a token, positions are added, and that token attends to all.
public struct AttentionPool<S: Scalar> {
  public let positions: Parameter<S>
  public let query: Linear<S>
  public let key: Linear<S>
  public let value: Linear<S>
  public let output: Linear<S>
  public let heads: Int

  /// Backward needs the tokens, the first one of each image and its query, and the state of the attention.
  final class Activations {
    fileprivate let (tokens, first, query, attended) = (Buffer<S>(), Buffer<S>(), Buffer<S>(), Buffer<S>())
    fileprivate let pool = AttentionPoolActivations<S>()
  }

  private let scratch = Buffer<S>()
  private let dattended = Buffer<S>()
  private let dquery = Buffer<S>()
  private let dfirst = Buffer<S>()
  private let dtokens = Buffer<S>()

  init(_ store: ParameterStore<S>, name: String, points: Int, width: Int, embedding: Int, heads: Int) {
    self.heads = heads
    let scale = 1 / Double(width).squareRoot()
    positions = store.declare("\(name).positional_embedding", Shape(points + 1, width), .normal(scale))
    func linear(_ part: String, to outputs: Int) -> Linear<S> {
      Linear(store, prefix: "\(name).\(part).", from: width, to: outputs, (.normal(scale), .uniform(scale)))
    }
    query = linear("q_proj", to: width)
    key = linear("k_proj", to: width)
    value = linear("v_proj", to: width)
    output = linear("c_proj", to: embedding)
  }

  /// Returns the row of an image's first token, as a range.
  private func firstRow(_ image: Int) -> Range<Int> {
    let row = image * positions.shape[0]
    return row..<row + 1
  }

  private func operands(_ activations: Activations, images b: Int) -> AttentionPoolOperands<S> {
    let (t, c) = (positions.shape[0], positions.shape[1])
    return AttentionPoolOperands(
      tokens: activations.tokens.tensor(Shape(b * t, c)), query: activations.query.tensor(Shape(b, c)),
      key: key.weight.value, value: value.weight.value, heads: heads)
  }

  /// x [b · points, c] → y [b, e].
  func forward(_ x: Tensor<S>, images b: Int, into y: Tensor<S>, activations: Activations) {
    let operands = operands(activations, images: b)
    poolTokens(x, images: b, positions: positions.value, into: operands.tokens)
    let first = activations.first.tensor(operands.query.shape)
    for image in 0..<b { copy(operands.tokens.rows(firstRow(image)), into: first.rows(image..<image + 1)) }
    query.forward(first, into: operands.query)
    let attended = activations.attended.tensor(operands.query.shape)
    attentionPool(operands, valueBias: value.bias.value, into: attended, activations: activations.pool)
    output.forward(attended, into: y)
  }

  /// Writes dx and adds to the parameters' gradients. The key's bias has none: it shifts all scores of a head alike.
  func backward(_ dy: Tensor<S>, images b: Int, activations: Activations, dx: Tensor<S>) {
    let operands = operands(activations, images: b)
    let shape = operands.query.shape
    let dout = dattended.tensor(shape)
    output.backward(dy, x: activations.attended.tensor(shape), dx: dout)
    let (dall, dq) = (dtokens.tensor(operands.tokens.shape), dquery.tensor(shape))
    attentionPoolBackward(
      dout, operands, activations: activations.pool,
      into: (dall, dq, key.weight.gradient, value.weight.gradient, value.bias.gradient), scratch: scratch)
    let dquestion = dfirst.tensor(shape)
    query.backward(dq, x: activations.first.tensor(shape), dx: dquestion)
    for image in 0..<b { add(dquestion.rows(image..<image + 1), to: dall.rows(firstRow(image))) }
    poolTokensBackward(dall, images: b, dpositions: positions.gradient, into: dx)
  }
}
