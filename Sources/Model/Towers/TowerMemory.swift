public import Tensor

/// The use of a tower's buffers.
public enum TowerUse: Sendable {
  /// Only forwards.
  case forward
  /// Forward and backward of the whole batch together.
  case training
  /// Forward and backward of micro-batches, after a forward of all of them that keeps nothing.
  case trainingInPieces

  fileprivate var keeps: Bool { self != .forward }
  fileprivate var passes: Bool { self != .training }
}

/// The number of elements in the buffers of a tower once they have grown; a test compares them with the buffers. There
/// are n rows of width w, h heads of i columns in all, u hidden units, b images or captions, and features of width e.
/// After its keys and values a block computes r rows: all n, or in the last block b.
private struct BufferNumbers {
  /// Elements of four bytes, whatever the precision of products.
  var exact = 0
  /// Operands of products: elements of four bytes, or of two if they are bf16.
  var operands = 0
  /// Copies for bf16 products, which exist only with these.
  var roundings = 0

  func bytes(_ precision: ComputePrecision) -> Int {
    precision == .fp32 ? 4 * (exact + operands) : 4 * exact + 2 * (operands + roundings)
  }

  static func + (a: Self, b: Self) -> Self {
    Self(exact: a.exact + b.exact, operands: a.operands + b.operands, roundings: a.roundings + b.roundings)
  }

  static func largest(_ a: Self, _ b: Self) -> Self {
    Self(
      exact: max(a.exact, b.exact), operands: max(a.operands, b.operands), roundings: max(a.roundings, b.roundings))
  }
}

/// The elements in the buffers of a transformer's blocks.
private struct TransformerBuffers {
  private var own = BufferNumbers()
  /// The buffers that blocks share, as large as the largest use.
  private var shared: [String: BufferNumbers] = [:]
  private let use: TowerUse
  private let recompute: Recompute

  var total: BufferNumbers { shared.values.reduce(own, +) }

  init(
    _ sizes: BlockSizes, width w: Int, rows n: Int, sequences b: Int, longest: Int, threads: Int, use: TowerUse,
    _ recompute: Recompute
  ) {
    (self.use, self.recompute) = (use, recompute)
    for (index, (h, u)) in zip(sizes.heads, sizes.hidden).enumerated() {
      let (i, isLast, tiles) = (h * sizes.headWidth, index == sizes.heads.count - 1, use.keeps ? 2 : 1)
      let (r, qkv, parts) = (isLast ? b : n, isLast ? (2 * n + b) * i : 3 * n * i, min(threads, b * h))
      hold("output", BufferNumbers(exact: r * w), again: [])
      hold("norms' statistics and middle", BufferNumbers(exact: 2 * n + 2 * r + r * w))
      hold("norms", BufferNumbers(operands: (n + r) * w), again: [.cheap, .blocks])
      hold("queries, keys and values", BufferNumbers(operands: qkv))
      hold("heads", BufferNumbers(operands: r * i))
      hold("log-sum-exps", BufferNumbers(exact: r * h))
      hold("activation's derivative", BufferNumbers(operands: r * u))
      hold("activation", BufferNumbers(operands: r * u), again: [.cheap, .blocks])
      if isLast {
        grow("scores", BufferNumbers(exact: parts * (tiles * longest + sizes.headWidth)))
        grow("rows with queries", BufferNumbers(operands: b * w))
      } else {
        let scores = parts * tiles * longest * longest
        grow("scores", BufferNumbers(exact: scores, roundings: scores))
      }
      guard use.keeps else { continue }
      grow("wide", BufferNumbers(operands: max(r * u, qkv)))
      grow("narrow", BufferNumbers(operands: r * i))
      grow("branch", BufferNumbers(exact: n * w))
      grow("rounded gradient", BufferNumbers(roundings: r * w))
      if isLast { grow("gradient of rows with queries", BufferNumbers(exact: b * w)) }
    }
  }

  /// Adds activations that backward needs: a block's own, or shared by all if they are computed `again`.
  private mutating func hold(_ name: String, _ numbers: BufferNumbers, again: [Recompute] = [.blocks]) {
    let isOwn = use.keeps && !again.contains(recompute)
    if isOwn { own = own + numbers }
    if use.passes || !isOwn { grow(name, numbers) }
  }

  private mutating func grow(_ name: String, _ numbers: BufferNumbers) {
    shared.merge([name: numbers], uniquingKeysWith: BufferNumbers.largest)
  }
}

extension TextConfig {
  /// Returns the bytes in the tower's buffers for `count` captions of `tokens` tokens in all.
  public func bufferBytes(
    captions: (count: Int, tokens: Int, longest: Int), embedding e: Int, threads: Int, use: TowerUse,
    recompute: Recompute = .none, precision: ComputePrecision = .fp32
  ) -> Int {
    let (b, n, longest) = captions
    let ends = (use.keeps ? 3 : 1) * b * width + 2 * b + b * e
    let blocks = TransformerBuffers(
      blockSizes, width: width, rows: n, sequences: b, longest: longest, threads: threads, use: use, recompute)
    return (BufferNumbers(exact: ends + (use.keeps ? 2 : 1) * n * width) + blocks.total).bytes(precision)
  }
}

extension VisionConfig {
  /// Returns the bytes in the tower's buffers for `b` images.
  public func bufferBytes(
    images b: Int, embedding e: Int, threads: Int, use: TowerUse, recompute: Recompute = .none,
    precision: ComputePrecision = .fp32
  ) -> Int {
    if stages != nil {
      let buffers = ResNetBuffers(self, images: b, threads: threads, use: use, recompute, precision)
      return (buffers.total + BufferNumbers(exact: b * e)).bytes(precision)
    }
    let (t, w) = (tokens(in: use), width)
    let n = b * t
    let blocks = TransformerBuffers(
      blockSizes, width: w, rows: n, sequences: b, longest: t, threads: threads, use: use, recompute)
    let ends = BufferNumbers(
      exact: (use.keeps ? 4 : 2) * n * w + (use.keeps ? 3 : 1) * b * w + 2 * n + 2 * b + b * e,
      operands: (n - b) * 3 * patchSize * patchSize, roundings: use.keeps ? (t - 1) * w : 0)
    return (ends + blocks.total).bytes(precision)
  }
}

/// The elements in the buffers of a ModifiedResNet, in the order in which its forward and backward use them.
private struct ResNetBuffers {
  private var own = BufferNumbers()
  /// The buffers that layers share, as large as the largest use: elements of four bytes, and operands.
  private var (exact, shared): ([String: Int], [String: Int]) = ([:], [:])
  private let threads: Int
  private let use: TowerUse
  private let recompute: Recompute
  private let precision: ComputePrecision

  var total: BufferNumbers {
    BufferNumbers(
      exact: own.exact + exact.values.reduce(0, +), operands: own.operands + shared.values.reduce(0, +),
      roundings: own.roundings + (exact["kernel"] ?? 0))
  }

  init(
    _ config: VisionConfig, images: Int, threads: Int, use: TowerUse, _ recompute: Recompute,
    _ precision: ComputePrecision
  ) {
    (self.threads, self.use, self.recompute, self.precision) = (threads, use, recompute, precision)
    var plane = Plane(images: images, height: config.imageSize, width: config.imageSize)
    (own.exact, own.roundings) = (plane.rows * 3, plane.rows * 3)
    for (inputs, outputs, stride) in config.stem {
      convolve(ConvolutionSizes(plane, inputs: inputs, outputs: outputs, size: 3, stride: stride), isFirst: stride == 2)
      plane = plane.convolved(stride: stride)
      // z, and y if backward needs it.
      own.operands += plane.rows * outputs
      own.exact += (use.keeps ? 5 : 3) * outputs
      if use.keeps { hold(plane.rows * outputs, "stem's output") }
    }
    if use.keeps {
      grow("wide", plane.rows * config.width)
      for buffer in ["narrow0", "narrow1"] { grow(buffer, plane.rows * (config.width / 2)) }
    }
    plane = plane.halved
    own.operands += plane.rows * config.width
    var largest = 0
    for block in config.bottlenecks.joined() {
      largest = max(largest, plane.rows * block.inputs)
      add(block, plane)
      plane = block.output(plane)
    }
    let points = plane.rows * config.outputWidth
    own.exact += points
    // The two parts of the gradient of a block's input, or of the last output.
    if use.keeps { for buffer in ["blocks0", "blocks1"] { grow(buffer, max(largest, points)) } }
    // The pool's tokens, the query and the attention of the first one, and their gradients.
    let (b, t, c, h) = (images, config.tokens, config.outputWidth, config.heads)
    own.exact += b * t * c + 3 * b * c + 2 * b * h * c + b * h * t
    if use.keeps { own.exact += b * h * (c + t) + 3 * b * c + b * t * c }
  }

  private mutating func add(_ block: BottleneckSizes, _ plane: Plane) {
    let (inputs, planes, outputs) = (block.inputs, block.planes, block.outputs)
    let (r, o) = (plane.rows, block.output(plane).rows)
    convolve(ConvolutionSizes(plane, inputs: inputs, outputs: planes, size: 1))
    convolve(ConvolutionSizes(plane, inputs: planes, outputs: planes, size: 3))
    convolve(ConvolutionSizes(block.output(plane), inputs: planes, outputs: outputs, size: 1))
    if !block.keepsShape { convolve(ConvolutionSizes(block.output(plane), inputs: inputs, outputs: outputs, size: 1)) }
    let (wide, pooled) = (block.keepsShape ? 0 : o * outputs, block.halves ? o : 0)
    for (buffer, numbers, isProduct) in [
      ("conv1", r * planes, true), ("conv2", r * planes, true), ("conv3", o * outputs, true),
      ("downsample", wide, true), ("pooled", pooled * planes, false), ("pooled input", pooled * inputs, false),
    ] {
      if use.keeps { hold(numbers, buffer, isProduct: isProduct) }
      if use.passes { grow(buffer, numbers) }
    }
    if use.keeps {
      hold(r * planes, "conv1's output")
      hold(r * planes, "conv2's output")
      // Each batch norm has three numbers per channel, and two for its gradients.
      own.operands += o * outputs
      own.exact += 5 * 6 * planes + (block.keepsShape ? 0 : 5 * outputs)
      grow("shortcut", wide)
      grow("wide", max(o * outputs, pooled * inputs))
      grow("narrow0", block.halves ? r * planes : o * planes)
      grow("narrow1", r * planes)
    }
    if use.passes {
      grow("output", o * outputs)
      growExact("columns of three", 3 * 6 * planes)
      if !block.keepsShape { growExact("its columns", 3 * outputs) }
    }
  }

  /// Adds the room of primitives, or of unfolded rows and of weights in the order that they need. The gradient of the
  /// weight unfolds always; images, the input of the first convolution, need none.
  private mutating func convolve(_ sizes: ConvolutionSizes, isFirst: Bool = false) {
    func unfold(_ plane: Plane, channels: Int) {
      // The last group is the largest.
      let lines = lineGroups(plane, channels: channels).last?.count ?? 0
      grow("columns", lines * plane.width * 9 * channels)
    }
    let passes = use.keeps && !isFirst ? [false, true] : [false]
    let number = 9 * sizes.inputs * sizes.outputs
    for isBackward in passes {
      if precision == .fp32, sizes.usesPrimitive(Float.self, threads: threads, isBackward: isBackward) {
        grow("columns", sizes.room(threads: threads, isBackward: isBackward))
      } else if sizes.size == 3 {
        unfold(sizes.output, channels: isBackward ? sizes.outputs : sizes.inputs)
        growExact("kernel", number)
      }
    }
    guard use.keeps, sizes.size == 3 else { return }
    unfold(sizes.output, channels: sizes.inputs)
    growExact("kernel gradient", number)
  }

  /// Adds activations that backward needs: the layer's own, or shared by all layers if they are computed again.
  private mutating func hold(_ numbers: Int, _ buffer: String, isProduct: Bool = false) {
    let isOwn = recompute == .none || (recompute == .cheap && isProduct)
    if isOwn { own.operands += numbers } else { grow(buffer, numbers) }
  }

  private mutating func grow(_ name: String, _ n: Int) { shared.merge([name: n], uniquingKeysWith: max) }
  private mutating func growExact(_ name: String, _ n: Int) { exact.merge([name: n], uniquingKeysWith: max) }
}
