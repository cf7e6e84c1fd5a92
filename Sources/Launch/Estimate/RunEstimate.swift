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
    /// The bytes that this rank hands over: its own part of an array that is gathered, otherwise all.
    var handed: Int
    /// The bytes that come from other ranks, as `Traffic` counts them.
    var received: Int
  }

  /// The rows of the token embedding that a step touches on a rank.
  struct TokenRows: Equatable, Codable {
    /// The number of rows of the token embedding.
    var all: Int
    /// The most rows that a step can touch.
    var bound: Int
    /// The number of rows that a step is expected to touch; nil without captions.
    var expected: Double?
    /// The bytes of one row.
    var bytes: Int
    /// The bytes that come from other ranks if every rank touches the most rows, or the expected number.
    var received: Int
    var expectedReceived: Int?
  }

  /// The part of the payloads that carries gradients of all parameters but the token embedding.
  static let gradients = "gradients"
  /// The part of the payloads that carries updated parameters.
  static let parameters = "parameters"
  /// The part of the payloads that carries gradients of the token embedding.
  static let tokens = "rows of tokens (at most)"

  /// The memory that is resident at the peak, including this rank's part of what the ranks of a node share.
  let memory: [Part]
  /// The messages of a step in the order in which they leave, with all terms that are ever used and those options that
  /// hold in the first step. Batch norm over all ranks is left out. The part `tokens` is an upper bound, since it
  /// depends on a step's captions.
  let payloads: [Payload]
  /// The bytes that the update reads and writes: value, gradient and both moments of each number that this rank owns,
  /// and with a moving average the value once more and the average.
  let updated: Int
  let tokenRows: TokenRows

  /// Estimates one rank.
  ///
  /// - Parameters:
  ///   - ranks: the number of ranks in all.
  ///   - nodeSize: the number of ranks on each node.
  init(_ shape: RunShape, rank: Int, of ranks: Int, ofNode nodeSize: Int) {
    let share = RankShare(shape, rank: rank, of: ranks)
    memory = share.memory(teacherWeights: shape.teacherWeights(ranks: ranks, ofNode: nodeSize))
    payloads = ranks == 1 ? [] : share.payloads
    updated = share.owned * (28 + (shape.run.ema == nil ? 0 : 12))
    tokenRows = share.tokenRows
  }

  var memoryBytes: Int { memory.reduce(0) { $0 + $1.bytes } }

  /// The bytes that the rank receives from others in a step, by part.
  var received: [Part] {
    var parts: [Part] = []
    for payload in payloads {
      if let index = parts.firstIndex(where: { $0.name == payload.part }) {
        parts[index].bytes += payload.received
      } else {
        parts.append(Part(name: payload.part, bytes: payload.received))
      }
    }
    return parts.filter { $0.bytes > 0 }
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

  init(_ shape: RunShape, rank: Int, of ranks: Int) {
    self.shape = shape
    self.rank = rank
    rowsOfRanks = (0..<ranks).map { Communicator.slice(of: shape.run.batch.global, rank: $0, size: ranks) }
    plan = shape.parameters.bucketPlan(ranks: ranks, mebibytes: shape.run.reduce.bucket)
    guard let tokenEmbedding = shape.parameters.entry(named: CLIPConfig.tokenEmbedding) else {
      preconditionFailure("a model without a token embedding")
    }
    tokenBucket = plan.buckets(in: [tokenEmbedding.extent])[0]
    traffic = Traffic(rank: rank, size: ranks)
  }

  private var run: RunConfig { shape.run }
  private var ranks: Int { plan.ranks }
  private var rows: Int { rowsOfRanks[rank].count }
  /// The number of scalars whose moments this rank holds.
  var owned: Int { plan.count(of: rank) }

  var tokenRows: RunEstimate.TokenRows {
    let text = shape.config.text
    let bucket = plan.buckets[tokenBucket]
    func received(_ touched: Int) -> Int {
      guard ranks > 1, !shape.frozen.covers(bucket.range) else { return 0 }
      return traffic.touchedRows(
        Array(repeating: touched, count: ranks), width: text.width, pieces: bucket.piecesInside, stride: 4)
    }
    let bound = min(text.vocabularySize, rows * text.contextLength)
    let expected = shape.captions.map { $0.differentTokens(in: rows) }
    return RunEstimate.TokenRows(
      all: text.vocabularySize, bound: bound, expected: expected, bytes: 4 * text.width, received: received(bound),
      expectedReceived: expected.map { received(Int($0.rounded())) })
  }

  // MARK: Memory

  /// - Parameter teacherWeights: the number of the teacher's weights that count as this rank's if they are loaded.
  func memory(teacherWeights: Int) -> [RunEstimate.Part] {
    var parts = parameterMemory + activations
    if let teacher = shape.loadedTeacher {
      parts.append(Part(name: "teacher", bytes: teacherBytes(teacher, weights: teacherWeights)))
    }
    let objective = run.objective.numbers(shape.objectiveSize(rows: rows), others: shape.ensemble)
    parts.append(Part(name: "objective", bytes: 4 * objective))
    parts.append(Part(name: "prepared batches", bytes: batchBytes))
    if ranks > 1 {
      parts.append(Part(name: "messages", bytes: ProgramMemory.messages(of: 4 * shape.parameters.count)))
    }
    if run.precision == .bf16 || shape.loadedTeacher != nil && run.teacher?.precision == .bf16 {
      parts.append(Part(name: "oneDNN's code", bytes: ProgramMemory.roundedProducts))
    }
    if shape.program > 0 {
      parts.append(Part(name: "program, libraries and data's index", bytes: shape.program))
    }
    return parts
  }

  private var parameterMemory: [Part] {
    let count = shape.parameters.count
    let rounded = run.precision == .bf16 ? 2 * count : 0
    var parts = [
      Part(name: "parameters", bytes: 4 * count + rounded),
      Part(name: "gradients", bytes: 4 * (count + (ranks > 1 ? owned : 0))),
      Part(name: "moments", bytes: 8 * owned),
    ]
    if run.ema != nil { parts.append(Part(name: "moving average", bytes: 4 * owned)) }
    if run.checkpoint.background {
      let bytes = BackgroundCheckpoints.bytes(of: owned, averaged: run.ema != nil)
      parts.append(Part(name: "checkpoint's copy", bytes: bytes))
    }
    return parts
  }

  private var activations: [Part] {
    let held = min(rows, run.batch.microBatchSize ?? rows)
    let use = held < rows ? TowerUse.trainingInPieces : .training
    let (image, text) = (shape.frozen.image ? TowerUse.forward : use, shape.frozen.text ? TowerUse.forward : use)
    let (recompute, precision) = (run.batch.recompute, run.precision.used)
    let images = imageBytes(held, shape.config, image, recompute, precision)
    let captions = captionBytes(held, shape.config, text, recompute, precision)
    let isBound = shape.captions == nil ? " (at most)" : ""
    return [
      Part(name: "images' activations", bytes: images), Part(name: "captions' activations\(isBound)", bytes: captions),
    ]
  }

  private func teacherBytes(_ teacher: RunShape.Teacher, weights: Int) -> Int {
    let held = min(rows, teacher.microBatchSize ?? rows)
    let precision = shape.teacherPrecision
    // Each rank rounds all weights for itself, wherever they are.
    let rounded = precision == .bf16 ? 2 * CLIP<Float>.layout(teacher.config).count : 0
    return 4 * weights + rounded + imageBytes(held, teacher.config, .forward, .none, precision)
      + captionBytes(held, teacher.config, .forward, .none, precision)
  }

  /// Returns the bytes in the buffers of a vision tower for `count` images.
  private func imageBytes(
    _ count: Int, _ config: CLIPConfig, _ use: TowerUse, _ recompute: Recompute, _ precision: ComputePrecision
  ) -> Int {
    config.vision.bufferBytes(
      images: count, embedding: config.embedding, threads: shape.threads, use: use, recompute: recompute,
      precision: precision)
  }

  /// Returns the bytes in the buffers of a text tower for `count` captions.
  private func captionBytes(
    _ count: Int, _ config: CLIPConfig, _ use: TowerUse, _ recompute: Recompute, _ precision: ComputePrecision
  ) -> Int {
    let context = config.text.contextLength
    let tokens = min(shape.captions?.tokens(of: count) ?? .max, count * context)
    return config.text.bufferBytes(
      captions: (count: count, tokens: tokens, longest: min(shape.captions?.longest ?? .max, context)),
      embedding: config.embedding, threads: shape.threads, use: use, recompute: recompute, precision: precision)
  }

  /// The bytes of the images of the step's batch and of those that are prepared ahead. A loaded teacher whose images
  /// have another size gets its own.
  private var batchBytes: Int {
    func pixels(_ config: CLIPConfig) -> Int { 3 * config.vision.imageSize * config.vision.imageSize }
    let own = pixels(shape.config)
    let teacher = shape.loadedTeacher.map { pixels($0.config) } ?? own
    return 4 * rows * (run.data.prefetch + 1) * (teacher == own ? own : own + teacher)
  }

  // MARK: Messages

  var payloads: [RunEstimate.Payload] { gradients + parameters + objective + statistics }

  private var gradients: [Payload] {
    // The last bucket is the first to leave.
    plan.buckets.indices.reversed().filter { !shape.frozen.covers(plan.buckets[$0].range) }.map { index in
      let bucket = plan.buckets[index]
      let bytes = 4 * bucket.range.count
      guard index == tokenBucket else {
        return Payload(
          part: RunEstimate.gradients, kind: .reduceScatter, bytes: bytes, handed: bytes,
          received: traffic.reduceScatter(bucket.pieces, stride: 4))
      }
      let text = shape.config.text
      let touched = rowsOfRanks.map { min($0.count * text.contextLength, text.vocabularySize) }
      return Payload(
        part: RunEstimate.tokens, kind: .exchange, bytes: min(bytes, 4 * text.width * (touched.max() ?? 0)),
        handed: min(bytes, 4 * text.width * touched[rank]),
        received: traffic.touchedRows(touched, width: text.width, pieces: bucket.piecesInside, stride: 4))
    }
  }

  private var parameters: [Payload] {
    plan.buckets.filter { !shape.frozen.covers($0.range) }.map {
      Payload(
        part: RunEstimate.parameters, kind: .allGather, bytes: 4 * $0.range.count, handed: 4 * $0.pieces[rank].count,
        received: traffic.gather($0.pieces, stride: 4))
    }
  }

  private var objective: [Payload] {
    let asked = ObjectiveTraffic(
      run.objective, studentWidth: shape.config.embedding, teacherWidth: shape.teacher?.config.embedding,
      others: shape.ensemble)
    let gathered = asked.gatheredColumns.map { columns in
      Payload(
        part: columns > 1 ? "embeddings" : "vectors", kind: .allGather, bytes: 4 * columns * run.batch.global,
        handed: 4 * columns * rows, received: columns * traffic.gather(rowsOfRanks, stride: 4))
    }
    // The last number is the gradient's norm.
    let reduced = (asked.reducedNumbers + [1]).map { count in
      Payload(
        part: "numbers", kind: .allReduce, bytes: 8 * count, handed: 8 * count,
        received: traffic.allReduce(count, stride: 8))
    }
    return gathered + reduced
  }

  /// The running statistics of batch norm, which rank 0 sends to all others.
  private var statistics: [Payload] {
    let bytes = 8 * shape.parameters.buffers.reduce(0) { $0 + $1.shape.count }
    guard bytes > 0 else { return [] }
    return [
      Payload(
        part: "running statistics", kind: .broadcast, bytes: bytes, handed: rank == 0 ? bytes : 0,
        received: rank == 0 ? 0 : bytes)
    ]
  }
}

/// The memory of a process that is not the run's own: Swift, MPI, BLAS, HDF5, the vocabulary and the index of the data.
enum ProgramMemory {
  /// Returns the bytes that the exchange of buckets takes: pieces laid out for MPI, MPI's own copies of them, and the
  /// memory through which the ranks of a node communicate. Measured on 2 ranks of a node with 0.3 to 389 MiB of
  /// gradients.
  static func messages(of gradients: Int) -> Int { min(24 << 20, 3 * gradients) }

  /// The bytes of the code that oneDNN generates for bf16 products: 0.02 to 0.5 MiB for each size that it meets.
  /// Measured on 2 ranks with packed captions.
  static let roundedProducts = 12 << 20

  /// Returns the bytes that are resident now, after BLAS has allocated the memory in which it lays out operands.
  static func measure() -> Int {
    let (rows, inner, columns) = (64, 512, 2048)
    matmul(
      Tensor<Float>(Shape(rows, inner)), Tensor<Float>(Shape(inner, columns)), into: Tensor<Float>(Shape(rows, columns))
    )
    return Int(ProcessMemory.now * 1_048_576)
  }
}
