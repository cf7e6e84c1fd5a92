public import Tensor

/// The use of a tower's buffers.
public enum TowerUse: Sendable {
  /// Only forwards.
  case forward
  /// Forward and backward of the whole batch together.
  case training
  /// Forward and backward of micro-batches, after a forward of all of them that keeps nothing.
  case trainingInPieces

  fileprivate var keeps: Bool {
    switch self {
    case .forward: false
    case .training, .trainingInPieces: true
    }
  }
  fileprivate var passes: Bool {
    switch self {
    case .training: false
    case .forward, .trainingInPieces: true
    }
  }
}

/// The number of elements in the buffers of a tower once they have grown, derived from the code of the layers; a test
/// compares them with the buffers. There are n rows of width w, h heads of i columns in all, u hidden units, b images
/// or captions, and features of width e.
private struct BufferNumbers {
  /// Elements of four bytes, whatever the precision of products.
  var exact = 0
  /// Operands of products: elements of four bytes, or of two if they are bf16.
  var operands = 0
  /// Copies for bf16 products, which exist only with these.
  var roundings = 0

  func bytes(_ precision: ComputePrecision) -> Int {
    switch precision {
    case .fp32: 4 * (exact + operands)
    case .bf16: 4 * exact + 2 * (operands + roundings)
    }
  }

  static func + (a: BufferNumbers, b: BufferNumbers) -> BufferNumbers {
    BufferNumbers(exact: a.exact + b.exact, operands: a.operands + b.operands, roundings: a.roundings + b.roundings)
  }

  static func - (a: BufferNumbers, b: BufferNumbers) -> BufferNumbers {
    BufferNumbers(exact: a.exact - b.exact, operands: a.operands - b.operands, roundings: a.roundings - b.roundings)
  }
}

extension BlockSizes {
  /// Returns the elements of a transformer: each block keeps n (4 w + 4 i + 2 u + h + 4) for backward, and a block that
  /// keeps nothing uses as many, which blocks share; all share n (max(u, 3 i) + i + w) for gradients, and tiles for the
  /// scores of one sequence and head on each thread. Activations that are computed again lie in the shared ones:
  /// n (2 w + u), or all but n w.
  fileprivate func bufferNumbers(
    width w: Int, rows n: Int, sequences: Int, longest: Int, threads: Int, use: TowerUse, recompute: Recompute
  ) -> BufferNumbers {
    let inner = heads.map { $0 * headWidth }
    func block(inner i: Int, hidden u: Int, heads h: Int) -> BufferNumbers {
      BufferNumbers(exact: n * (2 * w + h + 4), operands: n * (2 * w + 4 * i + 2 * u))
    }
    func again(inner i: Int, hidden u: Int, heads h: Int) -> BufferNumbers {
      switch recompute {
      case .none: BufferNumbers()
      case .cheap: BufferNumbers(operands: n * (2 * w + u))
      case .blocks: block(inner: i, hidden: u, heads: h) - BufferNumbers(exact: n * w)
      }
    }
    let (i, u, h) = (inner.max() ?? 0, hidden.max() ?? 0, heads.max() ?? 0)
    let tiles = (use.keeps ? 2 : 1) * min(threads, sequences * h) * longest * longest
    var numbers = BufferNumbers(exact: tiles, roundings: tiles)
    if use.passes { numbers = numbers + block(inner: i, hidden: u, heads: h) }
    if use.keeps {
      if !use.passes { numbers = numbers + again(inner: i, hidden: u, heads: h) }
      for (i, (u, h)) in zip(inner, zip(hidden, heads)) {
        numbers = numbers + block(inner: i, hidden: u, heads: h) - again(inner: i, hidden: u, heads: h)
      }
      numbers = numbers + BufferNumbers(exact: n * w, operands: n * (max(u, 3 * i) + i), roundings: n * w)
    }
    return numbers
  }
}

extension TextConfig {
  /// Returns the bytes in the tower's buffers for `count` captions of `tokens` tokens in all.
  public func bufferBytes(
    captions: (count: Int, tokens: Int, longest: Int), embedding e: Int, threads: Int, use: TowerUse,
    recompute: Recompute = .none, precision: ComputePrecision = .fp32
  ) -> Int {
    let (b, n, longest) = captions
    let ends = (use.keeps ? 4 : 2) * b * width + 2 * b + b * e
    let blocks = blockSizes.bufferNumbers(
      width: width, rows: n, sequences: b, longest: longest, threads: threads, use: use, recompute: recompute)
    return (BufferNumbers(exact: ends + (use.keeps ? 2 : 1) * n * width) + blocks).bytes(precision)
  }
}

extension VisionConfig {
  /// Returns the bytes in the tower's buffers for `b` images.
  public func bufferBytes(
    images b: Int, embedding e: Int, threads: Int, use: TowerUse, recompute: Recompute = .none,
    precision: ComputePrecision = .fp32
  ) -> Int {
    if let stages {
      return (ResNetBuffers(self, stages, images: b, use: use, recompute).total + BufferNumbers(exact: b * e))
        .bytes(precision)
    }
    let (n, w) = (b * tokens, width)
    let blocks = blockSizes.bufferNumbers(
      width: w, rows: n, sequences: b, longest: tokens, threads: threads, use: use, recompute: recompute)
    let ends = BufferNumbers(
      exact: (use.keeps ? 4 : 2) * (n + b) * w + 2 * n + 2 * b + b * e,
      operands: b * grid * grid * 3 * patchSize * patchSize, roundings: use.keeps ? grid * grid * w : 0)
    return (ends + blocks).bytes(precision)
  }
}

/// The elements in the buffers of a ModifiedResNet, in the order in which its forward and backward use them.
private struct ResNetBuffers {
  /// Elements of four bytes.
  private var exact = 0
  /// Operands of products.
  private var operands = 0
  /// Buffers that layers share, which are as large as the largest use.
  private var sharedExact: [String: Int] = [:]
  private var sharedOperands: [String: Int] = [:]
  /// Images, rounded for bf16 products.
  private var pixels = 0
  private let use: TowerUse
  private let recompute: Recompute

  var total: BufferNumbers {
    BufferNumbers(
      exact: exact + sharedExact.values.reduce(0, +), operands: operands + sharedOperands.values.reduce(0, +),
      roundings: pixels + (sharedExact["kernel"] ?? 0))
  }

  init(_ config: VisionConfig, _ stages: [Int], images: Int, use: TowerUse, _ recompute: Recompute) {
    self.use = use
    self.recompute = recompute
    var plane = Plane(images: images, height: config.imageSize, width: config.imageSize)
    let (width, half) = (config.width, config.width / 2)
    exact += plane.rows * 3
    pixels = plane.rows * 3
    for (index, sizes) in [(3, half), (half, half), (half, width)].enumerated() {
      convolve(plane, inputs: sizes.0, outputs: sizes.1, stride: index == 0 ? 2 : 1)
      if index == 0 { plane = plane.convolved(stride: 2) }
      // z, and y if backward needs it.
      operands += plane.rows * sizes.1
      exact += (use.keeps ? 5 : 3) * sizes.1
      if use.keeps { hold(plane.rows * sizes.1, "stem's output") }
    }
    if use.keeps {
      grow("wide", plane.rows * width)
      grow("narrow0", plane.rows * half)
      grow("narrow1", plane.rows * half)
    }
    plane = plane.halved
    operands += plane.rows * width
    var inputs = width
    var largestInput = 0
    for (stage, blocks) in stages.enumerated() {
      let planes = width << stage
      for place in 0..<blocks {
        let halves = place == 0 && stage > 0
        let grows = halves || inputs != 4 * planes
        largestInput = max(largestInput, plane.rows * inputs)
        add(plane, inputs: inputs, planes: planes, halves: halves, grows: grows)
        if halves { plane = plane.halved }
        inputs = 4 * planes
      }
    }
    exact += plane.rows * inputs
    if use.keeps {
      // The two parts of the gradient of a block's input, or of the last output.
      for buffer in ["blocks0", "blocks1"] { grow(buffer, max(largestInput, plane.rows * inputs)) }
    }
    addPool(images, points: config.grid * config.grid, width: config.outputWidth, heads: config.heads)
  }

  private mutating func add(_ plane: Plane, inputs: Int, planes: Int, halves: Bool, grows: Bool) {
    let out = halves ? plane.halved : plane
    let (r, o) = (plane.rows, out.rows)
    convolve(plane, inputs: planes, outputs: planes, stride: 1)
    if use.keeps {
      // Each batch norm has three numbers per channel, and two for its gradients.
      operands += o * 4 * planes
      exact += 5 * 6 * planes
      for layer in ["conv1", "conv2"] {
        hold(r * planes, layer, isProduct: true)
        hold(r * planes, "\(layer)'s output")
      }
      hold(o * 4 * planes, "conv3", isProduct: true)
      if halves {
        hold(o * planes, "pooled")
        hold(o * inputs, "pooled input")
      }
      if grows {
        hold(o * 4 * planes, "downsample", isProduct: true)
        exact += 5 * 4 * planes
        grow("shortcut", o * 4 * planes)
      }
      grow("wide", o * 4 * planes)
      if halves { grow("wide", o * inputs) }
      grow("narrow0", halves ? r * planes : o * planes)
      grow("narrow1", r * planes)
    }
    if use.passes {
      grow("conv1", r * planes)
      grow("conv2", r * planes)
      grow("conv3", o * 4 * planes)
      grow("output", o * 4 * planes)
      growExact("columns of three", 3 * 6 * planes)
      if halves {
        grow("pooled", o * planes)
        grow("pooled input", o * inputs)
      }
      if grows {
        grow("downsample", o * 4 * planes)
        growExact("its columns", 3 * 4 * planes)
      }
    }
  }

  /// Adds the tokens, the query and the attention of the first one, and their gradients.
  private mutating func addPool(_ b: Int, points: Int, width c: Int, heads h: Int) {
    let t = points + 1
    exact += b * t * c + 3 * b * c + 2 * b * h * c + b * h * t
    if use.keeps { exact += b * h * (c + t) + 3 * b * c + b * t * c }
  }

  /// Adds the unfolded rows of a 3 × 3 convolution and its weights in the order that they need.
  private mutating func convolve(_ plane: Plane, inputs: Int, outputs: Int, stride: Int) {
    func unfold(channels: Int, stride: Int) {
      let output = plane.convolved(stride: stride)
      grow("columns", LineGroups(output, channels: channels).height * output.width * 9 * channels)
    }
    unfold(channels: inputs, stride: stride)
    growExact("kernel", 9 * inputs * outputs)
    guard use.keeps else { return }
    growExact("kernel gradient", 9 * inputs * outputs)
    // Images need no gradient.
    if stride == 1 { unfold(channels: outputs, stride: 1) }
  }

  /// Adds activations that backward needs: the layer's own, or shared by all layers if they are computed again.
  private mutating func hold(_ numbers: Int, _ buffer: String, isProduct: Bool = false) {
    if recompute == .none || (recompute == .cheap && isProduct) { operands += numbers } else { grow(buffer, numbers) }
  }

  private mutating func grow(_ buffer: String, _ numbers: Int) {
    sharedOperands[buffer] = max(sharedOperands[buffer] ?? 0, numbers)
  }

  private mutating func growExact(_ buffer: String, _ numbers: Int) {
    sharedExact[buffer] = max(sharedExact[buffer] ?? 0, numbers)
  }
}
