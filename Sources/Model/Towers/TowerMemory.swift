public import Tensor

/// What a tower's buffers are used for.
public enum TowerUse: Sendable {
  /// Forward alone.
  case forward
  /// Forward and backward of all its rows at once.
  case training
  /// The same in pieces: features of all pieces first, without keeping anything.
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

/// The numbers that buffers of a tower hold once they have grown, counted from the layers' own code: rows n, width w,
/// heads h of together i columns, hidden units u; b pictures or captions, features of width e. A test holds them to the
/// buffers.
private struct BufferNumbers {
  /// Of four bytes whatever the precision of products.
  var exact = 0
  /// What products read: of four bytes, or rounded and then of two.
  var operands = 0
  /// Copies for products of rounded numbers, which there are none of otherwise.
  var roundings = 0

  func bytes(_ precision: Precision) -> Int {
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
  /// Of a transformer: each block keeps n (4 w + 4 i + 2 u + h + 4) for backward, one block in passing as much; all
  /// share n (max(u, 3 i) + i + w) for gradients, and tiles of scores of one sequence and head for each thread. What is
  /// computed again is not a block's own but in the place of the one in passing: n (2 w + u), or all but n w.
  fileprivate func bufferNumbers(
    width w: Int, rows n: Int, sequences: Int, longest: Int, threads: Int, use: TowerUse, recompute: Recompute
  ) -> BufferNumbers {
    let inner = heads.map { $0 * headWidth }
    func block(_ i: Int, _ u: Int, _ h: Int) -> BufferNumbers {
      BufferNumbers(exact: n * (2 * w + h + 4), operands: n * (2 * w + 4 * i + 2 * u))
    }
    func again(_ i: Int, _ u: Int, _ h: Int) -> BufferNumbers {
      switch recompute {
      case .none: BufferNumbers()
      case .cheap: BufferNumbers(operands: n * (2 * w + u))
      case .blocks: block(i, u, h) - BufferNumbers(exact: n * w)
      }
    }
    let (i, u, h) = (inner.max() ?? 0, hidden.max() ?? 0, heads.max() ?? 0)
    let tiles = (use.keeps ? 2 : 1) * min(threads, sequences * h) * longest * longest
    var numbers = BufferNumbers(exact: tiles, roundings: tiles)
    if use.passes { numbers = numbers + block(i, u, h) }
    if use.keeps {
      if !use.passes { numbers = numbers + again(i, u, h) }
      for index in heads.indices {
        numbers =
          numbers + block(inner[index], hidden[index], heads[index])
          - again(inner[index], hidden[index], heads[index])
      }
      numbers = numbers + BufferNumbers(exact: n * w, operands: n * (max(u, 3 * i) + i), roundings: n * w)
    }
    return numbers
  }
}

extension TextConfig {
  /// Bytes in the buffers of the tower, of captions with `rows` tokens in all.
  public func bufferBytes(
    captions b: Int, rows n: Int, longest: Int, embedding e: Int, threads: Int, use: TowerUse,
    recompute: Recompute = .none, precision: Precision = .fp32
  ) -> Int {
    let ends = (use.keeps ? 4 : 2) * b * width + 2 * b + b * e
    let blocks = blockSizes.bufferNumbers(
      width: width, rows: n, sequences: b, longest: longest, threads: threads, use: use, recompute: recompute)
    return (BufferNumbers(exact: ends + (use.keeps ? 2 : 1) * n * width) + blocks).bytes(precision)
  }
}

extension VisionConfig {
  /// Bytes in the buffers of the tower, of `b` pictures.
  public func bufferBytes(
    pictures b: Int, embedding e: Int, threads: Int, use: TowerUse, recompute: Recompute = .none,
    precision: Precision = .fp32
  ) -> Int {
    if let stages {
      return (ResNetBuffers(self, stages, pictures: b, use: use, recompute).total + BufferNumbers(exact: b * e))
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

/// The buffers of a ModifiedResNet, in the order in which its forward and backward ask for them.
private struct ResNetBuffers {
  /// Of four bytes.
  private var exact = 0
  /// Of what products read.
  private var operands = 0
  /// Buffers that several layers use hold the largest.
  private var sharedExact: [String: Int] = [:]
  private var sharedOperands: [String: Int] = [:]
  /// The rounded pictures.
  private var pixels = 0
  private let use: TowerUse
  private let recompute: Recompute

  var total: BufferNumbers {
    BufferNumbers(
      exact: exact + sharedExact.values.reduce(0, +), operands: operands + sharedOperands.values.reduce(0, +),
      roundings: pixels + (sharedExact["kernel"] ?? 0))
  }

  init(_ config: VisionConfig, _ stages: [Int], pictures: Int, use: TowerUse, _ recompute: Recompute) {
    self.use = use
    self.recompute = recompute
    var plane = Plane(pictures: pictures, height: config.imageSize, width: config.imageSize)
    let (width, half) = (config.width, config.width / 2)
    exact += plane.rows * 3
    pixels = plane.rows * 3
    for (index, sizes) in [(3, half), (half, half), (half, width)].enumerated() {
      convolve(plane, sizes.0, sizes.1, stride: index == 0 ? 2 : 1)
      if index == 0 { plane = plane.convolved(stride: 2) }
      // z, and y beside it where backward wants it.
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
        add(plane, inputs, planes, halves: halves, grows: grows)
        if halves { plane = plane.halved }
        inputs = 4 * planes
      }
    }
    exact += plane.rows * inputs
    if use.keeps {
      // Of a block's input, or of the last output, the gradients of both ways that lead to it.
      for buffer in ["blocks0", "blocks1"] { grow(buffer, max(largestInput, plane.rows * inputs)) }
    }
    addPool(pictures, points: config.grid * config.grid, width: config.outputWidth, heads: config.heads)
  }

  private mutating func add(_ plane: Plane, _ inputs: Int, _ planes: Int, halves: Bool, grows: Bool) {
    let out = halves ? plane.halved : plane
    let (r, o) = (plane.rows, out.rows)
    convolve(plane, planes, planes, stride: 1)
    if use.keeps {
      // Each batch norm has three numbers a channel, and two for its gradients.
      operands += o * 4 * planes
      exact += 5 * 6 * planes
      for layer in ["reduce", "spread"] {
        hold(r * planes, layer, isProduct: true)
        hold(r * planes, "\(layer)'s output")
      }
      hold(o * 4 * planes, "expand", isProduct: true)
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
      grow("reduce", r * planes)
      grow("spread", r * planes)
      grow("expand", o * 4 * planes)
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

  /// The tokens; of the first one query and mixture; with backward, their gradients.
  private mutating func addPool(_ b: Int, points: Int, width c: Int, heads h: Int) {
    let t = points + 1
    exact += b * t * c + 3 * b * c + 2 * b * h * c + b * h * t
    if use.keeps { exact += b * h * (c + t) + 3 * b * c + b * t * c }
  }

  /// The unfolded rows of a 3 × 3 convolution and its weights in their order.
  private mutating func convolve(_ plane: Plane, _ inputs: Int, _ outputs: Int, stride: Int) {
    func unfold(_ channels: Int, _ stride: Int) {
      let output = plane.convolved(stride: stride)
      grow("columns", LineGroups(output, channels: channels).height * output.width * 9 * channels)
    }
    unfold(inputs, stride)
    growExact("kernel", 9 * inputs * outputs)
    guard use.keeps else { return }
    growExact("kernel gradient", 9 * inputs * outputs)
    // Pictures are not learned.
    if stride == 1 { unfold(outputs, 1) }
  }

  /// Numbers that backward needs: of the layer's own, or in memory that all layers share where they are made again.
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
