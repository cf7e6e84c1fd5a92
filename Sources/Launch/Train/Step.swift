import Dist
import Foundation
import Model
import Settings
import Tensor

/// What one step of all ranks found: the same numbers on every rank, but for the seconds.
struct StepOutcome {
  /// The objective over the global batch, before the update.
  var report: ObjectiveReport
  /// The norm of the whole gradient, before clipping.
  var gradientNorm: Double
  /// e^logit_scale after the update.
  var logitScale: Double
  /// Whether the logit scale had to be held within its bounds.
  var clamped: Bool
  /// Bytes that this rank received from others, by the counting of `Traffic`.
  var received: Int
  /// What the masks of a model that is being pruned found.
  var pruning: MaskReport?
  var seconds = StepSeconds()

  var loss: Double { report.total }
}

/// Where a step's time went on this rank.
struct StepSeconds {
  var forward = 0.0
  var loss = 0.0
  var backward = 0.0
  /// Summing gradients and sharing out parameters, with the wait for other ranks.
  var communication = 0.0
  var optimizer = 0.0
}

/// Forward, loss, backward, reduction, update: one step over the global batch.
///
/// Every term divides by the global count, so gradients are summed over ranks, never averaged. Each rank updates what
/// it owns of the parameters, with the moments of that alone. Gradients leave for their owners while backward runs, and
/// new parameters come in while the next forward does: between steps `settle` waits for them.
final class Step<S: Scalar> {
  let model: CLIP<S>
  /// Its options may be changed between steps; the teacher's rows are put into it before a step.
  let objective: Objective<S>
  let communicator: Communicator
  let optimizer: AdamW<S>
  /// The moving average of what this rank owns of the weights, if one is kept.
  let average: WeightAverage<S>?
  /// Masks that are learned beside the weights until the model is cut.
  var pruning: MaskTraining<S>?
  /// What stays as it is.
  let frozen: Frozen
  let clipNorm: Double?
  /// At most so many pairs go through the towers at once; features are then computed first, and the towers run again.
  let micro: Int

  private let ranks: JobRanks<S>
  private let raw = (Buffer<S>(), Buffer<S>())
  private let exchange: StageExchange<S>

  /// Every rank must call it.
  init(
    _ model: CLIP<S>, _ objective: Objective<S>, _ options: AdamW<S>.Options, clipNorm: Double?, micro: Int?,
    reduce: ReduceConfig = ReduceConfig(), frozen: Frozen = .none, average: WeightAverage<S>.Options? = nil,
    communicator: Communicator
  ) throws {
    self.model = model
    self.objective = objective
    self.communicator = communicator
    self.frozen = frozen
    self.clipNorm = clipNorm
    self.micro = micro ?? Int.max
    ranks = JobRanks(communicator: communicator)
    exchange = try StageExchange(model, reduce, frozen: frozen, over: communicator)
    optimizer = AdamW(
      model.parameters, options, ranges: exchange.buckets.plan.ranges(of: communicator.rank), frozen: frozen)
    let (parameters, ranges) = (model.parameters, optimizer.ranges)
    self.average = average.map { WeightAverage(parameters, $0, ranges: ranges) }
    model.visual.freeze(frozen)
  }

  /// Whether gradients and parameters travel while the towers compute. It may change between steps, once they have
  /// settled; the numbers are the same.
  var overlaps: Bool {
    get { exchange.buckets.overlaps }
    set { exchange.buckets.overlaps = newValue }
  }

  /// Who owns what of the parameters.
  var plan: BucketPlan { exchange.buckets.plan }

  /// Takes all memory at once that steps need for their captions, of which this rank has `rows` of `count`, so that a
  /// step with more tokens than those before it takes none.
  func reserve(_ captions: CaptionSample, rows: Int, of count: Int) {
    let chunks = chunks(rows, of: count)
    guard let held = chunks.map(\.count).max(), held > 0, captions.longest > 0 else { return }
    for keeping in frozen.text ? [false] : chunks.count == 1 ? [true] : [false, true] {
      model.text.reserve(
        captions: held, tokens: captions.tokens(of: held), longest: captions.longest, keeping: keeping)
    }
  }

  /// Returns when all ranks' updates are in the model's parameters. Whoever reads them between steps calls it first.
  func settle() throws { try exchange.settle() }

  /// Puts the average of the weights in the model's place, and the weights in the average's, on all ranks; once more
  /// puts both back. Every rank must call it.
  func exchangeAverage() throws {
    guard let average else { preconditionFailure("no average is kept") }
    try settle()
    average.exchange()
    try exchange.gather(all: true)
    try settle()
  }

  /// Throws `ReplicasDiffer` where not all ranks have the same parameters and running statistics to the bit after
  /// `done` steps. Every rank must call it.
  func checkReplicas(after done: Int) throws {
    try settle()
    try communicator.requireSame(
      hash: bitHash(model.parameters.values) ^ (bitHash(model.parameters.bufferValues) &* 3), after: done)
  }

  /// One step on this rank's `rows` of a global batch of `count`: `images` [b, 3, size, size] and as many captions.
  ///
  /// Where the objective has a teacher, `teacherScale` is what its similarities are multiplied by, and its unit rows
  /// already stand in `objective.teacherRows`. Throws a `NonFiniteError` on all ranks together, and then parameters,
  /// moments, masks and running statistics are as they were.
  func run(
    images: Tensor<S>, captions: [[Int32]], rows: Range<Int>, count: Int, rate: Double, teacherScale: S? = nil
  ) throws -> StepOutcome {
    var seconds = StepSeconds()
    let receivedBefore = communicator.ledger.received + exchange.buckets.received
    let waitedBefore = exchange.waited
    let parameters = model.parameters
    let chunks = chunks(captions.count, of: count)
    exchange.touch(captions)
    let whole = chunks.count == 1

    holdLogitScale()
    if let pruning {
      // Masks go over all weights at once.
      try settle()
      pruning.wear()
    }
    // A weight that is still on its way is first read when its stage has arrived; from then to the end of backward it
    // stays.
    parameters.holdsValues = true
    defer { parameters.holdsValues = false }
    let (image, text) = clock(&seconds.forward, "forward") {
      fill(parameters.gradients, 0)
      return forward(images, captions, chunks)
    }
    let waited = exchange.waited - waitedBefore
    seconds.forward -= waited
    seconds.communication += waited
    try clock(&seconds.communication) {
      try exchange.check()
      try exchange.waitForObjective()
    }
    var report = try clock(&seconds.loss, "loss") {
      try objective.accumulate(
        image: image, text: text, rows: rows, count: count, logitScale: model.logitScale, teacherScale: teacherScale,
        ranks: ranks)
    }
    if objective.options.fixedLogitScale != nil { fill(model.logitScale.gradient, 0) }
    clock(&seconds.backward, "backward") { backward(images, captions, chunks, again: !whole) }
    parameters.holdsValues = false
    let slopes = try clock(&seconds.communication) { try takeOffMasks() }

    let own = exchange.buckets.own
    let norm = try clock(&seconds.communication) {
      try exchange.finishReduction()
      optimizer.clearFrozen(own)
      var squares = [sumOfSquares(own)]
      try communicator.sum(&squares)
      return squares[0].squareRoot()
    }
    guard report.total.isFinite, norm.isFinite else {
      let teacher = teacherScale.map { _ in objective.teacherRows(rows, of: count) }
      let checked = [
        ("image features", image), ("text features", text), ("teacher's image embeddings", teacher?.image),
        ("teacher's text embeddings", teacher?.text), ("gradient", parameters.gradients),
      ]
      model.visual.dropStatistics()
      throw try nonFinite(report, norm: norm, checked)
    }
    let masks = try clock(&seconds.communication) {
      try moveStatistics()
      return movePruning(slopes, &report)
    }
    clock(&seconds.optimizer, "optimizer") {
      optimizer.update(
        parameters.values, gradient: own, rate: rate, gradientScale: clipFactor(norm: norm, limit: clipNorm))
    }
    try clock(&seconds.communication) { try exchange.gather() }
    let clamped = holdLogitScale()
    clock(&seconds.optimizer) { average?.update(after: optimizer.step) }
    return StepOutcome(
      report: report, gradientNorm: norm, logitScale: exp(Double(model.logitScale.value[0])), clamped: clamped,
      received: communicator.ledger.received + exchange.buckets.received - receivedBefore, pruning: masks,
      seconds: seconds)
  }

  /// Takes masks off the model; their gradients, summed over the ranks.
  private func takeOffMasks() throws -> [Double] {
    guard let pruning else { return [] }
    var slopes = pruning.takeOff()
    try communicator.sum(&slopes)
    return slopes
  }

  /// Moves masks, and adds their term to the loss.
  private func movePruning(_ slopes: [Double], _ report: inout ObjectiveReport) -> MaskReport? {
    guard let pruning else { return nil }
    let masks = pruning.update(slopes)
    report.terms.append(ObjectiveReport.Term(name: "sparsity", weight: 1, value: masks.term))
    report.total += masks.term
    return masks
  }

  /// Keeps the logit scale within its bounds, true where it had to be moved; or at the value that is fixed. A frozen
  /// one is left as it is.
  @discardableResult
  private func holdLogitScale() -> Bool {
    if frozen.logitScale { return false }
    guard let fixed = objective.options.fixedLogitScale?.wrappedValue else { return model.clampLogitScale() }
    fill(model.logitScale.value, S(log(fixed)))
    return false
  }

  /// Raw features of all pairs [b, e].
  private func forward(
    _ images: Tensor<S>, _ captions: [[Int32]], _ chunks: [Range<Int>]
  ) -> (Tensor<S>, Tensor<S>) {
    if chunks.count == 1 {
      return (
        model.visual.forward(images, keeping: !frozen.image),
        model.text.forward(captions, keeping: !frozen.text)
      )
    }
    let shape = Shape(captions.count, model.config.embedding)
    let (image, text) = (raw.0.tensor(shape), raw.1.tensor(shape))
    for chunk in chunks {
      let mode = frozen.image ? ForwardMode.evaluation : .rehearsal
      copy(model.visual.forward(images.pictures(chunk), mode: mode, observe: nil), into: image.rows(chunk))
      copy(model.text.forward(captions[chunk], keeping: false), into: text.rows(chunk))
    }
    return (image, text)
  }

  /// The gradients of the towers that learn from the features'; with `again`, each chunk's forward is repeated first.
  private func backward(_ images: Tensor<S>, _ captions: [[Int32]], _ chunks: [Range<Int>], again: Bool) {
    let (dimage, dtext) = objective.rawGradients()
    for (index, chunk) in chunks.enumerated() {
      // Gradients under masks are not those of the weights yet.
      if index == chunks.count - 1, pruning == nil { exchange.beginReduction() }
      if !frozen.text {
        if again { _ = model.text.forward(captions[chunk], keeping: true) }
        model.text.backward(dtext.rows(chunk))
      }
      if !frozen.image {
        if again { _ = model.visual.forward(images.pictures(chunk), keeping: true) }
        model.visual.backward(dimage.rows(chunk))
      }
    }
  }

  /// This rank's pairs in as many chunks as every rank has, for batch norm over all ranks meets in each of them.
  private func chunks(_ own: Int, of count: Int) -> [Range<Int>] {
    let most = communicator.slices(of: count).map(\.count).max() ?? 0
    let chunks = max((most - 1) / micro + 1, 1)
    return (0..<chunks).map { $0 * own / chunks..<($0 + 1) * own / chunks }
  }

  /// Moves running statistics once, and gives all ranks those of rank 0: they may have seen other pictures.
  private func moveStatistics() throws {
    try model.visual.moveStatistics()
    if communicator.size > 1, model.parameters.bufferValues.count > 0 {
      try communicator.broadcast(model.parameters.bufferValues, root: 0)
    }
  }

  /// Asks every rank which of its tensors are not finite. All ranks come here together, for loss and norm are the same
  /// everywhere.
  private func nonFinite(
    _ report: ObjectiveReport, norm: Double, _ checked: [(name: String, tensor: Tensor<S>?)]
  ) throws -> NonFiniteError {
    var flags = [Int](repeating: 0, count: checked.count * communicator.size)
    for (index, item) in checked.enumerated() {
      let isFinite = item.tensor.map { sumOfSquares($0).isFinite } ?? true
      flags[checked.count * communicator.rank + index] = isFinite ? 0 : 1
    }
    try communicator.sum(&flags)
    let origins = (0..<communicator.size).compactMap { rank -> String? in
      let bad = checked.indices.filter { flags[checked.count * rank + $0] != 0 }.map { checked[$0].name }
      return bad.isEmpty ? nil : "rank \(rank): \(bad.joined(separator: ", "))"
    }
    return NonFiniteError(step: optimizer.step + 1, report: report, norm: norm, origins: origins)
  }
}

/// Adds to `seconds` what `body` takes; with a name, it is a span of the trace too.
func clock<R>(
  _ seconds: inout Double, _ name: String? = nil, _ kind: Trace.Kind = .compute, _ body: () throws -> R
) rethrows -> R {
  let start = ContinuousClock.now
  defer { seconds += (ContinuousClock.now - start) / .seconds(1) }
  guard let name else { return try body() }
  return try Trace.span(name, kind, body)
}
