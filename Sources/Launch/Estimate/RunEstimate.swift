import Dist
import Model
import Tensor

/// The memory that one rank of a run will hold, and its messages in each step, in bytes.
struct RunEstimate {
  /// Bytes under a name for the user.
  struct Part: Equatable, Codable {
    var name: String
    var bytes: Int
  }

  /// One call of a collective in a step.
  struct Payload: Equatable {
    enum Kind: String, Codable {
      case reduceScatter = "reduce-scatter"
      case allGather = "all-gather"
      case allReduce = "all-reduce"
      case exchange, broadcast
    }

    var part: String
    var kind: Kind
    /// The bytes of the whole array, of all ranks.
    var bytes: Int
    /// The bytes that this rank hands over (its own part of an array that is gathered, otherwise all), and those that
    /// come from other ranks, as `Traffic` counts them.
    var handed, received: Int
    var way = Way.collective
    /// The number of exchanges, one after another, over which the bytes are spread: each has messages of its own.
    var exchanges = 1

    /// The algorithm of a call, on which its time depends.
    enum Way: Equatable {
      /// The one that MPI chooses.
      case collective
      /// Every rank sends to each other one.
      case pairs
      /// Two levels, with so many bytes of the whole array within a node.
      case levels(within: Int)
    }
  }

  /// The rows of the token embedding, of `bytes` each, that a step touches on a rank.
  struct TokenRows: Equatable, Codable {
    /// The number of rows of the token embedding, and the most that a step can touch.
    var all, bound: Int
    /// The number of rows that a step is expected to touch; nil without captions.
    var expected: Double?
    var bytes: Int
    /// The bytes in which a rank, or in two levels a node, tells all owners which rows it touches.
    var marks: Int
    /// The bytes that come from other ranks if every rank touches the most rows, or the expected number.
    var received: Int
    var expectedReceived: Int?
  }

  /// The parts of the payloads that carry updated parameters, their gradients, and those of the token embedding.
  static let (parameters, gradients, tokens) = ("parameters", "gradients", "rows of tokens (at most)")

  /// The memory that is resident at the peak, including this rank's part of what the ranks of a node share.
  let memory: [Part]
  /// The messages of a step in the order in which they leave, with all terms that are ever used and those options that
  /// hold in the first step. Batch norm over all ranks is left out. The part `tokens` is an upper bound, since it
  /// depends on a step's captions.
  let payloads: [Payload]
  /// The payload of the part `tokens` with the rows that a step is expected to touch; nil without captions.
  let expectedTokens: Payload?
  /// The bytes that the update reads and writes: value, gradient and both moments of each number that this rank owns,
  /// and with a moving average the value once more and the average.
  let updated: Int
  let tokenRows: TokenRows
  /// The way of gradients and parameters between ranks.
  let route: BucketRoute

  /// Estimates one of `ranks` ranks, of which each node has `nodeSize`.
  init(_ shape: RunShape, rank: Int, of ranks: Int, ofNode nodeSize: Int) {
    let share = RankShare(shape, rank: rank, of: ranks, ofNode: nodeSize)
    memory = share.memory(teacherWeights: shape.teacherWeights(ranks: ranks, ofNode: nodeSize))
    payloads = ranks == 1 ? [] : share.payloads
    expectedTokens = ranks == 1 ? nil : share.expectedTokens
    updated = share.owned * (28 + (shape.run.ema == nil ? 0 : 12))
    (tokenRows, route) = (share.tokenRows, share.route)
  }

  var memoryBytes: Int { memory.reduce(0) { $0 + $1.bytes } }

  /// Returns parts as a list in a sentence: `parameters 12 MiB, gradients 12 MiB`.
  static func list(_ parts: [Part]) -> String {
    parts.map { "\($0.name) \(Figures.bytes($0.bytes))" }.joined(separator: ", ")
  }

  /// The bytes that the rank receives from others in a step, by part.
  var received: [Part] {
    var seen: Set<String> = []
    return payloads.map(\.part).filter { seen.insert($0).inserted }.map { name in
      Part(name: name, bytes: payloads.filter { $0.part == name }.reduce(0) { $0 + $1.received })
    }.filter { $0.bytes > 0 }
  }
}

/// One rank's share of a run: its rows of the global batch, and its pieces of the buckets.
private struct RankShare {
  private typealias Part = RunEstimate.Part
  private typealias Payload = RunEstimate.Payload

  private let shape: RunShape
  private let rank: Int
  /// The rows of the global batch that each rank has.
  private let rowsOfRanks: [Range<Int>]
  private let plan: BucketPlan
  /// The index of the token embedding's bucket, which contains nothing else.
  private let tokenBucket: Int
  private let traffic: Traffic
  let route: BucketRoute

  init(_ shape: RunShape, rank: Int, of ranks: Int, ofNode nodeSize: Int) {
    (self.shape, self.rank) = (shape, rank)
    rowsOfRanks = (0..<ranks).map { Communicator.slice(of: shape.run.batch.global, rank: $0, size: ranks) }
    plan = shape.parameters.bucketPlan(ranks: ranks, mebibytes: shape.run.reduce.bucket)
    guard let tokenEmbedding = shape.parameters.entry(named: CLIPConfig.tokenEmbedding) else {
      preconditionFailure("a model without a token embedding")
    }
    tokenBucket = plan.buckets(in: [tokenEmbedding.extent])[0]
    traffic = Traffic(rank: rank, size: ranks)
    let isRounded = shape.run.precision.used == .bf16
    let nodes = shape.nodes.flatMap { $0.ranks == ranks ? $0 : nil } ?? NodeMap(ranks: ranks, ofNode: nodeSize)
    route = shape.run.reduce.route(
      plan, rounded: isRounded ? shape.parameters.operandExtents : [], frozen: shape.frozen, nodes: nodes, Float.self
    ).ofWeights(masked: shape.masks != nil)
  }

  private var run: RunConfig { shape.run }
  private var ranks: Int { plan.ranks }
  private var rows: Int { rowsOfRanks[rank].count }
  /// The number of scalars whose moments this rank holds.
  var owned: Int { plan.count(of: rank) }

  var tokenRows: RunEstimate.TokenRows {
    let text = shape.config.text
    func received(_ payload: Payload) -> Int {
      ranks > 1 && !shape.frozen.covers(plan.buckets[tokenBucket].range) ? payload.received : 0
    }
    let captions = rows * shape.captionsPerImage
    let bound = min(text.vocabularySize, captions * text.contextLength)
    return RunEstimate.TokenRows(
      all: text.vocabularySize, bound: bound, expected: expectedRows, bytes: 4 * text.width,
      marks: matrixRows.sentMarkBytes, received: received(tokens(Array(repeating: bound, count: ranks))),
      expectedReceived: expectedTokens.map(received))
  }

  /// - Parameter teacherWeights: the number of the teacher's weights that count as this rank's if they are loaded.
  func memory(teacherWeights: Int) -> [RunEstimate.Part] {
    let count = shape.parameters.count
    let (isAveraged, isRounded) = (run.ema != nil, run.precision == .bf16)
    let copied = BackgroundCheckpoints.bytes(of: owned, averaged: isAveraged)
    let held = min(rows, run.batch.microBatchSize ?? rows)
    let use = held < rows ? TowerUse.trainingInPieces : .training
    let uses = (image: shape.frozen.image ? .forward : use, text: shape.frozen.text ? .forward : use)
    let towers = towerBytes(held, shape.config, uses, run.batch.recompute, run.precision.used)
    let usesOneDNN = isRounded || shape.loadedTeacher != nil && run.teacher?.precision == .bf16
    let teacher = shape.loadedTeacher.map { teacherBytes($0, weights: teacherWeights) }
    let size = shape.objectiveSize(rows: rows)
    let measured = run.log.termGradients > 0 ? run.objective.measuredNumbers(size) : 0
    let objective = 4 * (run.objective.numbers(size, others: shape.ensemble) + measured + sums(size))
    let (values, moments, average) = (4 * count + (isRounded ? 2 * count : 0), 8 * owned, 4 * owned)
    let gradients = 4 * (count + (ranks > 1 ? owned : 0))
    let masks = shape.masks
    let messages = ProgramMemory.messages(of: 4 * count) + route.bufferBytes(plan, Float.self)
    let parts: [(name: String, bytes: Int?)] = [
      ("parameters", values), ("gradients", gradients), ("moments", moments),
      ("masks and unmasked weights", masks.map { maskBytes($0, pairs: held) }), ("cut model", masks.map(cutBytes)),
      ("moving average", isAveraged ? average : nil), ("checkpoint's copy", run.checkpoint.background ? copied : nil),
      ("images' activations", towers.images),
      (shape.captions == nil ? "captions' activations (at most)" : "captions' activations", towers.captions),
      ("teacher", teacher), ("objective", objective), ("prepared batches", batchBytes),
      ("messages", ranks > 1 ? messages : nil), ("oneDNN's code", usesOneDNN ? ProgramMemory.roundedProducts : nil),
      ("program, libraries and data's index", shape.program > 0 ? shape.program : nil),
    ]
    return parts.compactMap { name, bytes in bytes.map { Part(name: name, bytes: $0) } }
  }

  /// Returns the bytes of masks in training and of the weights without them, with `pairs` in the towers at once.
  private func maskBytes(_ masks: MaskLayout, pairs: Int) -> Int {
    let rows = (
      image: pairs * shape.config.vision.trainedTokens, text: captions(ofImages: pairs, shape.config).tokens
    )
    return masks.trainingBytes(shape.parameters, rows: rows, precision: run.precision.used)
  }

  /// Returns the bytes of the model that the masks leave, with its gradients, moments and average: at the cut it is
  /// allocated while the whole model is still there (`TrainState.cut`). A run is expected to reach its sparsity.
  private func cutBytes(_ masks: MaskLayout) -> Int {
    let count = masks.remaining(of: shape.parameters.count, sparsity: run.prune?.sparsity ?? 0)
    let owned = Int(Double(owned) * Double(count) / Double(shape.parameters.count))
    return 8 * count + (ranks > 1 ? 4 * owned : 0) + 8 * owned + (run.ema == nil ? 0 : 4 * owned)
  }

  /// Returns the number of scalars that `CaptionLosses` keeps: rows of one caption of each image, the sums of
  /// gradients, and the teachers' rows of all captions.
  private func sums(_ size: ObjectiveSize) -> Int {
    let each = shape.captionsPerImage
    guard each > 1 else { return 0 }
    let teachers = run.objective.needsTeacher ? shape.ensemble.reduce(size.teacher, +) : 0
    return size.rows * ((2 + each) * size.student + each * teachers)
  }

  private func teacherBytes(_ teacher: (config: CLIPConfig, microBatchSize: Int?), weights: Int) -> Int {
    let held = min(rows, teacher.microBatchSize ?? rows)
    let precision = shape.teacherPrecision
    // Each rank rounds all weights for itself, wherever they are.
    let rounded = precision == .bf16 ? 2 * CLIP<Float>.layout(teacher.config).count : 0
    let bytes = towerBytes(held, teacher.config, (.forward, .forward), .none, precision)
    return 4 * weights + rounded + bytes.images + bytes.captions
  }

  /// Returns the bytes in the buffers of both towers for `count` pairs.
  private func towerBytes(
    _ count: Int, _ config: CLIPConfig, _ uses: (image: TowerUse, text: TowerUse), _ recompute: Recompute,
    _ precision: ComputePrecision
  ) -> (images: Int, captions: Int) {
    config.bufferBytes(
      images: count, captions: captions(ofImages: count, config), threads: shape.threads, uses: uses,
      recompute: recompute, precision: precision)
  }

  /// Returns how many captions these images have in a step, and how many tokens in all and in the longest.
  private func captions(ofImages images: Int, _ config: CLIPConfig) -> (count: Int, tokens: Int, longest: Int) {
    let (context, count) = (config.text.contextLength, images * shape.captionsPerImage)
    let tokens = min(shape.captions?.tokens(of: count) ?? .max, count * context)
    return (count, tokens, min(shape.captions?.longest ?? .max, context))
  }

  /// The bytes of the images of the step's batch and of those that are prepared ahead, of each size that is needed.
  private var batchBytes: Int {
    let sizes = Set([shape.config, shape.loadedTeacher?.config].compactMap { $0?.vision.imageSize })
    return 4 * rows * (run.data.prefetch + 1) * sizes.reduce(0) { $0 + 3 * $1 * $1 }
  }

  var payloads: [RunEstimate.Payload] { gradients + parameters + objective + statistics }

  private var gradients: [Payload] {
    // The last bucket is the first to leave.
    plan.buckets.indices.reversed().filter { !shape.frozen.covers(plan.buckets[$0].range) }.map { index in
      guard index == tokenBucket else { return reduction(plan.buckets[index]) }
      let text = shape.config.text
      return tokens(
        rowsOfRanks.map { min($0.count * shape.captionsPerImage * text.contextLength, text.vocabularySize) })
    }
  }

  /// Returns the reduction of a whole bucket.
  private func reduction(_ bucket: Bucket) -> Payload {
    let bytes = route.wire.stride(of: Float.self) * bucket.range.count
    return Payload(
      part: RunEstimate.gradients, kind: .reduceScatter, bytes: bytes, handed: bytes,
      received: route.reductionBytes(bucket, traffic, Float.self),
      way: route.nodes != nil
        ? .levels(within: 4 * bucket.range.count) : route.wire == .bf16 ? .pairs : .collective)
  }

  private var matrixRows: MatrixRows {
    MatrixRows(width: shape.config.text.width, pieces: plan.buckets[tokenBucket].piecesInside)
  }

  /// Returns the reduction of the token embedding if each rank touches so many rows, and the ranks of each node so many
  /// together; if these are nil, no rank touches a row of another. First owners learn which rows will come, and then
  /// get them: from the ranks, or in two levels from the nodes. If the whole matrix is smaller, it goes as other
  /// buckets do.
  private func tokens(_ touched: [Int], together: [Int]? = nil) -> Payload {
    let (bucket, width) = (plan.buckets[tokenBucket], shape.config.text.width)
    let together = together ?? route.nodes?.together(touched, of: shape.config.text.vocabularySize) ?? touched
    var payload = reduction(bucket)
    payload.part = RunEstimate.tokens
    payload.kind = .exchange
    payload.received = traffic.touchedRows(
      touched, together: together, width: width, pieces: bucket.piecesInside, Float.self, route)
    let all = together.reduce(0, +)
    guard route.sendsRows(touched: all, width: width, of: bucket.range.count, ranks: ranks, Float.self) else {
      return payload
    }
    let row = route.wire.stride(of: Float.self) * width
    payload.bytes = min(payload.bytes, row * (together.max() ?? 0))
    payload.handed = min(payload.handed, row * touched[rank])
    (payload.way, payload.exchanges) = (.pairs, 2)
    guard let nodes = route.nodes else { return payload }
    payload.bytes += matrixRows.sentMarkBytes
    let marks = matrixRows.markBytes * (nodes.nodes.map(\.count).max() ?? 1)
    payload.way = .levels(within: 4 * width * (touched.max() ?? 0) + marks)
    return payload
  }

  /// Returns the number of captions in the rows of the global batch of these ranks.
  private func captions(of ranks: [Int]) -> Int {
    ranks.reduce(0) { $0 + rowsOfRanks[$1].count } * shape.captionsPerImage
  }

  /// The different tokens that a rank's captions are expected to have; nil without captions.
  private var expectedRows: Double? { shape.captions?.differentTokens(in: captions(of: [rank])) }

  /// The reduction of the token embedding with the rows that each rank, and each node, is expected to touch.
  var expectedTokens: RunEstimate.Payload? {
    guard let sample = shape.captions, let expectedRows else { return nil }
    // Most nodes have as many captions as others, and the sum over all tokens takes a while.
    var known: [Int: Int] = [:]
    let together = route.nodes?.nodes.map { node in
      let captions = captions(of: node)
      let rows = known[captions] ?? Int(sample.differentTokens(in: captions).rounded())
      known[captions] = rows
      return rows
    }
    return tokens(Array(repeating: Int(expectedRows.rounded()), count: ranks), together: together)
  }

  /// Returns the way of an all-gather of so many bytes.
  private func gathering(_ bytes: Int) -> Payload.Way { route.nodes == nil ? .collective : .levels(within: bytes) }

  private var parameters: [Payload] {
    plan.buckets.filter { !shape.frozen.covers($0.range) }.map { bucket in
      let bytes = route.bytes(of: bucket.range, Float.self)
      return Payload(
        part: RunEstimate.parameters, kind: .allGather, bytes: bytes,
        handed: route.bytes(of: bucket.pieces[rank], Float.self),
        received: route.gatheringBytes(bucket, traffic, Float.self), way: gathering(bytes))
    }
  }

  private var objective: [Payload] {
    let (own, teacher) = (shape.config.embedding, shape.teacher?.width)
    let asked = ObjectiveTraffic(run.objective, studentWidth: own, teacherWidth: teacher, others: shape.ensemble)
    let gathered = asked.gatheredColumns.map { columns in
      Payload(
        part: columns > 1 ? "embeddings" : "vectors", kind: .allGather, bytes: 4 * columns * run.batch.global,
        handed: 4 * columns * rows, received: columns * traffic.gather(rowsOfRanks, stride: 4),
        way: columns > 1 ? gathering(4 * columns * run.batch.global) : .collective)
    }
    func numbers(_ count: Int) -> Payload {
      let (bytes, received) = (8 * count, traffic.allReduce(count, stride: 8))
      return Payload(part: "numbers", kind: .allReduce, bytes: bytes, handed: bytes, received: received)
    }
    let once = gathered + asked.reducedNumbers.map(numbers)
    // The last number is the gradient's norm.
    return repeatElement(once, count: shape.captionsPerImage).joined() + [numbers(1)]
  }

  /// The running statistics of batch norm, which rank 0 sends to all others.
  private var statistics: [Payload] {
    let bytes = 8 * shape.parameters.buffers.reduce(0) { $0 + $1.shape.count }
    let (handed, received) = rank == 0 ? (bytes, 0) : (0, bytes)
    let sent = Payload(part: "running statistics", kind: .broadcast, bytes: bytes, handed: handed, received: received)
    return bytes > 0 ? [sent] : []
  }
}

extension CLIPConfig {
  /// Returns the bytes in the buffers of both towers.
  func bufferBytes(
    images count: Int, captions: (count: Int, tokens: Int, longest: Int), threads: Int,
    uses: (image: TowerUse, text: TowerUse), recompute: Recompute, precision: ComputePrecision
  ) -> (images: Int, captions: Int) {
    let images = vision.bufferBytes(
      images: count, embedding: embedding, threads: threads, use: uses.image, recompute: recompute,
      precision: precision)
    let texts = text.bufferBytes(
      captions: captions, embedding: embedding, threads: threads, use: uses.text, recompute: recompute,
      precision: precision)
    return (images, texts)
  }
}

/// The memory of a process that is not the run's own: Swift, MPI, BLAS, HDF5, the vocabulary and the index of the data.
enum ProgramMemory {
  /// Returns the bytes that the exchange of buckets takes: pieces laid out for MPI, its copies of them, and the memory
  /// through which ranks of a node communicate. Measured on 2 ranks of a node with 0.3 to 389 MiB of gradients.
  static func messages(of gradients: Int) -> Int { min(24 << 20, 3 * gradients) }

  /// The bytes of oneDNN's generated code: 0.02 to 0.5 MiB for each size, measured on 2 ranks with packed captions.
  static let roundedProducts = 12 << 20

  /// Returns the bytes that are resident now, after BLAS has allocated the memory in which it lays out operands.
  static func measure() -> Int {
    let (rows, inner, columns) = (64, 512, 2048)
    let (a, b) = (Tensor<Float>(Shape(rows, inner)), Tensor<Float>(Shape(inner, columns)))
    matmul(a, b, into: Tensor<Float>(Shape(rows, columns)))
    return Int(ProcessMemory.now * 1_048_576)
  }
}
