public import Tensor

/// Points of pictures [b · points, c] to features [b, e]: their mean is put in front of them as a token, positions are
/// added, and that token attends to all. Projections of queries, keys and values are separate and have biases.
public struct AttentionPool<S: Scalar> {
  public let positions: Parameter<S>
  public let query: Linear<S>
  public let key: Linear<S>
  public let value: Linear<S>
  public let output: Linear<S>
  public let heads: Int

  /// What backward needs: the tokens, the first of each picture, its query, and what attention keeps.
  final class Saved {
    let tokens = Buffer<S>()
    let first = Buffer<S>()
    let query = Buffer<S>()
    let reach = Buffer<S>()
    let probabilities = Buffer<S>()
    let mixed = Buffer<S>()
    let attended = Buffer<S>()
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
    func linear(_ part: String, _ outputs: Int) -> Linear<S> {
      Linear(
        weight: store.declare("\(name).\(part).weight", Shape(outputs, width), .normal(scale)),
        bias: store.declare("\(name).\(part).bias", Shape(outputs), .uniform(scale)))
    }
    query = linear("q_proj", width)
    key = linear("k_proj", width)
    value = linear("v_proj", width)
    output = linear("c_proj", embedding)
  }

  private func firstRows(_ b: Int) -> [Int] { (0..<b).map { $0 * positions.shape[0] } }

  /// x [b · points, c] → y [b, e].
  func forward(_ x: Tensor<S>, pictures b: Int, into y: Tensor<S>, saved: Saved) {
    let (t, c) = (positions.shape[0], x.columns)
    let tokens = saved.tokens.tensor(Shape(b * t, c))
    poolTokens(x, pictures: b, positions: positions.value, into: tokens)
    let first = saved.first.tensor(Shape(b, c))
    gatherRows(tokens, firstRows(b), into: first)
    let q = saved.query.tensor(Shape(b, c))
    query.forward(first, into: q)
    let attended = saved.attended.tensor(Shape(b, c))
    attentionPool(
      tokens, q: q, key: key.weight.value, value: value.weight.value, valueBias: value.bias.value, heads: heads,
      reach: saved.reach.tensor(Shape(b, heads * c)), probabilities: saved.probabilities.tensor(Shape(b, heads * t)),
      mixed: saved.mixed.tensor(Shape(b, heads * c)), into: attended)
    output.forward(attended, into: y)
  }

  /// Writes dx; adds to the parameters' gradients. The key's bias has none: it moves all scores of a head alike.
  func backward(_ dy: Tensor<S>, pictures b: Int, saved: Saved, dx: Tensor<S>) {
    let (t, c) = (positions.shape[0], dx.columns)
    let dout = dattended.tensor(Shape(b, c))
    output.backward(dy, x: saved.attended.tensor(Shape(b, c)), dx: dout)
    let dall = dtokens.tensor(Shape(b * t, c))
    let dq = dquery.tensor(Shape(b, c))
    attentionPoolBackward(
      dout, x: saved.tokens.tensor(Shape(b * t, c)), q: saved.query.tensor(Shape(b, c)), key: key.weight.value,
      value: value.weight.value, heads: heads, reach: saved.reach.tensor(Shape(b, heads * c)),
      probabilities: saved.probabilities.tensor(Shape(b, heads * t)), mixed: saved.mixed.tensor(Shape(b, heads * c)),
      dx: dall, dq: dq, dkey: key.weight.gradient, dvalue: value.weight.gradient, dvalueBias: value.bias.gradient,
      scratch: scratch)
    let dquestion = dfirst.tensor(Shape(b, c))
    query.backward(dq, x: saved.first.tensor(Shape(b, c)), dx: dquestion)
    for (picture, row) in firstRows(b).enumerated() {
      add(dquestion.rows(picture..<picture + 1), to: dall.rows(row..<row + 1))
    }
    poolTokensBackward(dall, pictures: b, dpositions: positions.gradient, into: dx)
  }
}
