import Dist
import Model
import Tensor

/// What one rank of a run will hold, and hand to others in each step, before it starts: in bytes.
struct RunEstimate {
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
    /// The whole array, of all ranks.
    var bytes: Int
    /// What this rank hands over: of what is gathered its own, otherwise all.
    var handed: Int
    /// What comes from others, by the counting of `Traffic`.
    var received: Int

    var isShared: Bool { kind != .allReduce }
  }

  /// Resident at the peak; of what a node's ranks share, this rank's part.
  let memory: [Part]
  /// With every term that is ever used and the switches of the first step; batch norm over all ranks is left out. What
  /// travels of the token embedding depends on a step's captions: these are a bound.
  let payloads: [Payload]
  /// The name of that part.
  static let tokens = "rows of tokens (at most)"
  /// Numbers whose moments are this rank's.
  let owned: Int
  /// Bytes that an update of them reads and writes: value, gradient and both moments; and value and average once more.
  let updated: Int
  /// Rows of the token embedding that a step touches on this rank.
  let tokenRows: TokenRows

  struct TokenRows: Equatable, Codable {
    /// Rows of the token embedding.
    var all: Int
    var bound: Int
    /// Nil where no caption is known.
    var expected: Double?
    /// Bytes of a row.
    var bytes: Int
    /// Bytes that come from others for them, with as many rows on every rank: at most, and as expected.
    var received: Int
    var expectedReceived: Int?
  }

  /// - Parameters:
  ///   - parameters: the student's and the objective's own, laid out.
  ///   - teacher: the teacher's sizes, how many pairs its towers hold at once, and the numbers of its weights that one
  ///     rank has to answer for; nil without one.
  ///   - isCached: whether its embeddings come from a cache, so that it is not there itself.
  ///   - frozen: what of the student stays as it is.
  ///   - ensemble: widths of the embeddings of teachers beside it.
  ///   - captions: as the run will see them; nil: every caption may fill its context.
  ///   - threads: that compute.
  ///   - program: bytes of the process before all this (`ProgramMemory`).
  init(
    _ run: RunConfig, _ config: CLIPConfig, _ parameters: ParameterStore<Float>,
    teacher: (config: CLIPConfig, microBatchSize: Int?, weights: Int)?, isCached: Bool = false,
    frozen: Frozen = .none, ensemble: [Int] = [], captions: CaptionSample? = nil, threads: Int = 1, program: Int = 0,
    rank: Int, of ranks: Int
  ) {
    let rows = Communicator.slice(of: run.batch.global, rank: rank, size: ranks).count
    let plan = parameters.bucketPlan(ranks: ranks, mebibytes: run.reduce.bucket)
    owned = plan.count(of: rank)
    updated = owned * (28 + (run.ema == nil ? 0 : 12))
    let text = config.text
    let traffic = Traffic(rank: rank, size: ranks)
    let tokenEmbedding = plan.buckets[plan.buckets(in: [parameters.tokenEmbedding])[0]]
    func received(_ touched: Int) -> Int {
      ranks == 1 || frozen.covers(tokenEmbedding.range)
        ? 0
        : traffic.touchedRows(
          Array(repeating: touched, count: ranks), width: text.width, pieces: tokenEmbedding.piecesInside, stride: 4)
    }
    let bound = min(text.vocabularySize, rows * text.contextLength)
    let expected = captions.map { $0.differentTokens(in: rows) }
    tokenRows = TokenRows(
      all: text.vocabularySize, bound: bound, expected: expected, bytes: 4 * text.width, received: received(bound),
      expectedReceived: expected.map { received(Int($0.rounded())) })
    let towers = TowerBuffers(captions: captions, threads: threads)
    memory = Self.memory(
      run, config, parameters, frozen, owned: owned, teacher: isCached ? nil : teacher,
      teacherWidth: teacher?.config.embedding,
      ensemble, towers, program: program, rows: rows, ranks: ranks)
    payloads =
      ranks == 1
      ? []
      : Self.payloads(run, config, parameters, frozen, plan, teacher: teacher?.config.embedding, ensemble, rank: rank)
  }

  // MARK: Memory

  private static func memory(
    _ run: RunConfig, _ config: CLIPConfig, _ parameters: ParameterStore<Float>, _ frozen: Frozen, owned: Int,
    teacher: (config: CLIPConfig, microBatchSize: Int?, weights: Int)?, teacherWidth: Int?, _ ensemble: [Int],
    _ towers: TowerBuffers, program: Int, rows: Int, ranks: Int
  ) -> [Part] {
    let rounded = run.precision == .bf16 ? 2 * parameters.count : 0
    var parts = [
      Part(name: "parameters", bytes: 4 * parameters.count + rounded),
      Part(name: "gradients", bytes: 4 * (parameters.count + (ranks > 1 ? owned : 0))),
      Part(name: "moments", bytes: 8 * owned),
    ]
    if run.ema != nil { parts.append(Part(name: "moving average", bytes: 4 * owned)) }
    if run.checkpoint.background {
      let bytes = BackgroundCheckpoints.bytes(of: owned, averaged: run.ema != nil)
      parts.append(Part(name: "checkpoint's copy", bytes: bytes))
    }
    let held = min(rows, run.batch.microBatchSize ?? rows)
    let (use, again) = (held < rows ? TowerUse.trainingInPieces : .training, run.batch.recompute)
    let (image, text) = (frozen.image ? TowerUse.forward : use, frozen.text ? TowerUse.forward : use)
    let precision = run.precision.used
    parts.append(
      Part(name: "images' activations", bytes: towers.images(held, of: config, image, again, precision)))
    let isBound = towers.captions == nil ? " (at most)" : ""
    parts.append(
      Part(
        name: "captions' activations\(isBound)", bytes: towers.captions(held, of: config, text, again, precision)))
    if let teacher {
      let held = min(rows, teacher.microBatchSize ?? rows)
      let precision = run.teacher?.precision.used ?? .fp32
      let buffers =
        towers.images(held, of: teacher.config, .forward, .none, precision)
        + towers.captions(held, of: teacher.config, .forward, .none, precision)
      // Each rank rounds all weights for itself, wherever they are.
      let rounded = precision == .bf16 ? 2 * CLIP<Float>.layout(teacher.config).count : 0
      parts.append(Part(name: "teacher", bytes: 4 * teacher.weights + rounded + buffers))
    }
    let size = ObjectiveSize(
      rows: rows, count: run.batch.global, student: config.embedding, teacher: teacherWidth ?? config.embedding)
    let objective = run.objective.numbers(size, others: ensemble)
    parts.append(Part(name: "objective", bytes: 4 * objective))
    parts.append(Part(name: "prepared batches", bytes: batches(run, config, teacher?.config, rows: rows)))
    if ranks > 1 { parts.append(Part(name: "messages", bytes: ProgramMemory.messages(of: 4 * parameters.count))) }
    if run.precision == .bf16 || teacher != nil && run.teacher?.precision == .bf16 {
      parts.append(Part(name: "oneDNN's code", bytes: ProgramMemory.roundedProducts))
    }
    if program > 0 { parts.append(Part(name: "program, libraries and data's index", bytes: program)) }
    return parts
  }

  /// Images that are prepared ahead, and the step's own; the teacher's beside them where it wants others.
  private static func batches(_ run: RunConfig, _ config: CLIPConfig, _ teacher: CLIPConfig?, rows: Int) -> Int {
    func images(_ config: CLIPConfig) -> Int { 3 * config.vision.imageSize * config.vision.imageSize }
    let others = teacher.map { $0.vision.imageSize == config.vision.imageSize ? 0 : images($0) } ?? 0
    return 4 * rows * (run.data.prefetch + 1) * (images(config) + others)
  }

  // MARK: Messages

  private static func payloads(
    _ run: RunConfig, _ config: CLIPConfig, _ parameters: ParameterStore<Float>, _ frozen: Frozen, _ plan: BucketPlan,
    teacher: Int?, _ ensemble: [Int], rank: Int
  ) -> [Payload] {
    let traffic = Traffic(rank: rank, size: plan.ranks)
    let asked = ObjectiveTraffic(
      run.objective, studentWidth: config.embedding, teacherWidth: teacher, others: ensemble)
    let rows = (0..<plan.ranks).map { Communicator.slice(of: run.batch.global, rank: $0, size: plan.ranks) }
    var payloads: [Payload] = []
    // The last bucket is the first to leave.
    let tokenEmbedding = plan.buckets(in: [parameters.tokenEmbedding])
    for (index, bucket) in plan.buckets.enumerated().reversed() where !frozen.covers(bucket.range) {
      let bytes = 4 * bucket.range.count
      if tokenEmbedding.contains(index) {
        let text = config.text
        let touched = rows.map { min($0.count * text.contextLength, text.vocabularySize) }
        payloads.append(
          Payload(
            part: tokens, kind: .exchange, bytes: min(bytes, 4 * text.width * (touched.max() ?? 0)),
            handed: min(bytes, 4 * text.width * touched[rank]),
            received: traffic.touchedRows(touched, width: text.width, pieces: bucket.piecesInside, stride: 4)))
        continue
      }
      payloads.append(
        Payload(
          part: "gradients", kind: .reduceScatter, bytes: bytes, handed: bytes,
          received: traffic.reduceScatter(bucket.pieces, stride: 4)))
    }
    for bucket in plan.buckets where !frozen.covers(bucket.range) {
      payloads.append(
        Payload(
          part: "parameters", kind: .allGather, bytes: 4 * bucket.range.count, handed: 4 * bucket.pieces[rank].count,
          received: traffic.gather(bucket.pieces, stride: 4)))
    }
    for columns in asked.gatheredColumns {
      payloads.append(
        Payload(
          part: columns > 1 ? "embeddings" : "vectors", kind: .allGather, bytes: 4 * columns * run.batch.global,
          handed: 4 * columns * rows[rank].count, received: columns * traffic.gather(rows, stride: 4)))
    }
    // One number is the gradient's norm.
    for count in asked.reducedNumbers + [1] {
      payloads.append(
        Payload(
          part: "numbers", kind: .allReduce, bytes: 8 * count, handed: 8 * count,
          received: traffic.allReduce(count, stride: 8)))
    }
    let statistics = 8 * parameters.buffers.reduce(0) { $0 + $1.shape.count }
    if statistics > 0 {
      payloads.append(
        Payload(
          part: "running statistics", kind: .broadcast, bytes: statistics, handed: rank == 0 ? statistics : 0,
          received: rank == 0 ? 0 : statistics))
    }
    return payloads
  }

  /// What a rank receives from others in a step, by part.
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

  // MARK: Words

  /// Bytes of all parts.
  var memoryBytes: Int { memory.reduce(0) { $0 + $1.bytes } }

  var memoryText: String {
    "about \(Figures.bytes(memoryBytes)) a rank: \(Self.list(memory))"
  }

  /// What a rank receives from others in a step.
  var wireText: String {
    received.isEmpty
      ? "nothing: there are no other ranks"
      : "\(Figures.bytes(received.reduce(0) { $0 + $1.bytes })) a step: \(Self.list(received))"
  }

  private static func list(_ parts: [Part]) -> String {
    parts.map { "\($0.name) \(Figures.bytes($0.bytes))" }.joined(separator: ", ")
  }
}

/// Bytes in the buffers of towers, for captions as they are known.
private struct TowerBuffers {
  let captions: CaptionSample?
  let threads: Int

  func images(
    _ count: Int, of config: CLIPConfig, _ use: TowerUse, _ recompute: Recompute, _ precision: ComputePrecision
  ) -> Int {
    config.vision.bufferBytes(
      images: count, embedding: config.embedding, threads: threads, use: use, recompute: recompute,
      precision: precision)
  }

  func captions(
    _ count: Int, of config: CLIPConfig, _ use: TowerUse, _ recompute: Recompute, _ precision: ComputePrecision
  ) -> Int {
    let context = config.text.contextLength
    let tokens = min(captions?.tokens(of: count) ?? .max, count * context)
    return config.text.bufferBytes(
      captions: (count: count, tokens: tokens, longest: min(captions?.longest ?? .max, context)),
      embedding: config.embedding, threads: threads, use: use, recompute: recompute, precision: precision)
  }
}

extension ParameterStore {
  /// The place of the embeddings of tokens.
  fileprivate var tokenEmbedding: Range<Int> {
    guard let tokenEmbedding = entry(named: CLIPConfig.tokenEmbedding) else {
      preconditionFailure("a model without tokens")
    }
    return tokenEmbedding.extent
  }
}
