import Dist
import Model
import Tensor

/// What one rank of a run will hold, and receive in each step, before it starts: the large parts, in bytes.
struct RunEstimate {
  struct Part: Equatable {
    var name: String
    var bytes: Int
  }

  let memory: [Part]
  /// By the counting of `Traffic`, with every term that is ever used and the switches of the first step; batch norm over
  /// all ranks is left out.
  let received: [Part]
  /// The name of the one part of `received` that is a bound: gradients of the rows of tokens that a step has.
  static let tokens = "rows of tokens (at most)"

  /// - Parameters:
  ///   - parameters: the student's and the objective's own, laid out.
  ///   - teacher: the teacher's sizes, how many pairs its towers hold at once, and the numbers of its weights that one
  ///     rank has to answer for; nil without one.
  ///   - isCached: whether its embeddings come from a cache, so that it is not there itself.
  ///   - ensemble: widths of the embeddings of teachers beside it.
  init(
    _ run: RunConfig, _ config: CLIPConfig, _ parameters: ParameterStore<Float>,
    teacher: (config: CLIPConfig, micro: Int?, weights: Int)?, isCached: Bool = false,
    ensemble: [Int] = [], rank: Int, of ranks: Int
  ) {
    let batch = run.batch.global
    let rows = Communicator.slice(of: batch, rank: rank, size: ranks).count
    let plan = parameters.bucketPlan(ranks: ranks, mebibytes: run.reduce.bucket)
    let own = plan.count(of: rank)
    var memory = [
      Part(name: "parameters", bytes: 4 * parameters.count),
      Part(name: "gradients", bytes: 4 * (parameters.count + (ranks > 1 ? own : 0))),
      Part(name: "moments", bytes: 8 * own),
    ]
    if run.checkpoint.background {
      memory.append(Part(name: "checkpoint's copy", bytes: BackgroundCheckpoints.bytes(of: own)))
    }
    let held = min(rows, run.batch.micro ?? rows)
    // What blocks keep for backward, and one block's again for its gradients.
    memory.append(
      Part(name: "pictures' activations", bytes: 4 * held * (config.vision.keptNumbers + config.vision.blockNumbers)))
    memory.append(
      Part(
        name: "captions' activations (at most)",
        bytes: 4 * held * (config.text.keptNumbers + config.text.blockNumbers)))
    if let teacher, !isCached {
      let held = min(rows, teacher.micro ?? rows)
      // Forward alone keeps one block's numbers.
      let numbers = max(teacher.config.vision.blockNumbers, teacher.config.text.blockNumbers)
      memory.append(
        Part(name: "teacher", bytes: 4 * (teacher.weights + held * numbers)))
    }
    let objective = Self.objectiveNumbers(
      run.objective.declared, student: config.embedding, teacher: teacher?.config.embedding, ensemble, rows: rows,
      of: batch)
    memory.append(Part(name: "objective", bytes: 4 * objective))
    memory.append(
      Part(name: "prepared batches", bytes: Self.batches(run, config, isCached ? nil : teacher?.config, rows: rows)))
    self.memory = memory
    received =
      ranks == 1
      ? [] : Self.received(run, config, parameters, plan, teacher: teacher?.config.embedding, ensemble, rank: rank)
  }

  /// Embeddings of all ranks, gradients of own rows, tiles of similarities.
  private static func objectiveNumbers(
    _ options: ObjectiveOptions, student: Int, teacher: Int?, _ ensemble: [Int], rows: Int, of count: Int
  ) -> Int {
    // Pictures and captions; of all rows the values, of own rows the gradient.
    func embeddings(_ width: Int) -> Int { 2 * (count + rows) * width }
    var numbers = embeddings(student)
    let tile = Tiles<Float>()
    // Two beside them where softmaxes of several teachers are averaged.
    numbers += (ensemble.isEmpty ? 2 : 4) * min(tile.rows, rows) * min(tile.columns, count)
    guard let teacher, options.needsTeacher else { return numbers }
    numbers += 2 * count * ensemble.reduce(teacher, +)
    if teacher != student, options.fd + options.icl + options.crossKD + options.gd != 0 {
      numbers += embeddings(teacher) + 2 * rows * teacher
    }
    if options.gd != 0 { numbers += 2 * embeddings(teacher) }
    if options.afd != 0 { numbers += embeddings(student) + 4 * rows * (student + teacher) }
    return numbers
  }

  /// Pictures that are prepared ahead, and the step's own; the teacher's beside them where it wants others.
  private static func batches(_ run: RunConfig, _ config: CLIPConfig, _ teacher: CLIPConfig?, rows: Int) -> Int {
    func pictures(_ config: CLIPConfig) -> Int { 3 * config.vision.imageSize * config.vision.imageSize }
    let others = teacher.map { $0.vision.imageSize == config.vision.imageSize ? 0 : pictures($0) } ?? 0
    return 4 * rows * (run.data.prefetch + 1) * (pictures(config) + others)
  }

  private static func received(
    _ run: RunConfig, _ config: CLIPConfig, _ parameters: ParameterStore<Float>, _ plan: BucketPlan, teacher: Int?,
    _ ensemble: [Int], rank: Int
  ) -> [Part] {
    let traffic = Traffic(rank: rank, size: plan.ranks)
    let asked = ObjectiveTraffic(
      run.objective.declared, studentWidth: config.embedding, teacherWidth: teacher, others: ensemble)
    let table = parameters.entry(named: "token_embedding.weight")?.offset ?? 0
    let tokens = plan.buckets.first { $0.range.contains(table) }
    let rows = (0..<plan.ranks).map { Communicator.slice(of: run.batch.global, rank: $0, size: plan.ranks) }
    func gathered(_ columns: [Int]) -> Int { columns.reduce(0) { $0 + $1 * traffic.gather(rows, stride: 4) } }
    let statistics = rank == 0 ? 0 : 8 * parameters.buffers.reduce(0) { $0 + $1.shape.count }
    // One number is the gradient's norm.
    let numbers = (asked.reducedNumbers + [1]).reduce(0) { $0 + traffic.allReduce($1, stride: 8) }
    return [
      Part(
        name: "gradients",
        bytes: plan.buckets.reduce(0) { $0 + ($1 == tokens ? 0 : traffic.reduceScatter($1.pieces, stride: 4)) }),
      Part(
        name: Self.tokens,
        bytes: traffic.touchedRows(
          rows.map { min($0.count * config.text.contextLength, config.text.vocabularySize) }, width: config.text.width,
          pieces: tokens?.piecesInside ?? [], stride: 4)),
      Part(name: "parameters", bytes: plan.buckets.reduce(0) { $0 + traffic.gather($1.pieces, stride: 4) }),
      Part(name: "embeddings", bytes: gathered(asked.gatheredColumns.filter { $0 > 1 })),
      Part(name: "vectors", bytes: gathered(asked.gatheredColumns.filter { $0 == 1 })),
      Part(name: "numbers", bytes: numbers), Part(name: "running statistics", bytes: statistics),
    ].filter { $0.bytes > 0 }
  }

  var memoryText: String {
    "about \(Self.total(memory)) a rank: \(Self.list(memory))"
  }

  /// What a rank receives from others in a step.
  var wireText: String {
    received.isEmpty ? "nothing: there are no other ranks" : "\(Self.total(received)) a step: \(Self.list(received))"
  }

  private static func total(_ parts: [Part]) -> String { Figures.bytes(parts.reduce(0) { $0 + $1.bytes }) }

  private static func list(_ parts: [Part]) -> String {
    parts.map { "\($0.name) \(Figures.bytes($0.bytes))" }.joined(separator: ", ")
  }
}

extension VisionConfig {
  /// Those of one block, as the mean of all.
  fileprivate var blockNumbers: Int { keptNumbers / layers }
}

extension TextConfig {
  /// Numbers that one caption of full length leaves for backward, large parts only: what each block keeps.
  fileprivate var keptNumbers: Int { layers * blockNumbers }

  fileprivate var blockNumbers: Int { contextLength * (8 * width + 2 * hidden) }
}
