import Dist
import Model
import Tensor

/// A model whose weights are sharded over the K ranks of a group. Each rank keeps 1/K of every stage of the towers and
/// of the rows of the token embedding. A stage is gathered while the previous one computes, and is discarded after use:
/// the arena has addresses for all weights, but only this rank's parts and two stages take memory.
final class ShardedWeights {
  let model: CLIP<Float>
  /// The seconds spent waiting for weights in all passes except the trial.
  private(set) var waited = 0.0
  private(set) var passes = 0
  /// The most bytes of weights that this rank had in memory during the trial.
  private(set) var peak = 0
  let group: Communicator
  private let arena: ReservedArena<Float>
  private let gather: GatherAhead<Float>
  /// The stages of the vision tower, then those of the text tower.
  private let stages: [[Range<Int>]]
  private var failure: (any Error)?

  /// Reads this rank's parts by `read`, and runs a pass without a forward as a trial. All ranks must call it.
  init(
    _ config: CLIPConfig, over group: Communicator, read: (CLIP<Float>, _ ranges: [Range<Int>]) throws -> Void
  ) throws {
    self.group = group
    arena = ReservedArena(count: CLIP<Float>.layout(config).count)
    model = CLIP(config, frozen: true, values: arena.values)
    stages = CLIP<Float>.stages(config)
    gather = GatherAhead(arena.values, stages: stages, over: group)
    let tokenEmbedding = model.text.tokenEmbedding
    // Every rank keeps the logit scale, which is one number.
    try read(
      model,
      stages.joined().map { GatherAhead<Float>.parts(of: $0, ranks: group.size)[group.rank] }
        + [Self.rows(ownTokens, of: tokenEmbedding), model.logitScale.extent])
    let visualCount = model.visual.stages.extents.count
    model.visual.stages.willRun = { [unowned self] in willRun($0) }
    model.text.stages.willRun = { [unowned self] in willRun(visualCount + $0) }
    try pass([])
    (waited, passes) = (0, 0)
  }

  var twoStages: Int {
    let sizes = stages.map { $0.reduce(0) { $0 + $1.count } }.sorted()
    return sizes.suffix(2).reduce(0, +) * MemoryLayout<Float>.stride
  }

  /// Returns the passes and the time spent waiting, for the log. Every rank must call it.
  func text(over ranks: Communicator) throws -> String {
    let seconds = try ranks.allReduce(waited, .maximum)
    let each = passes == 0 ? 0 : seconds / Double(passes)
    return "teacher's weights: gathered \(passes) times, waited \(Figures.fixed(seconds, 2)) s for them on the rank "
      + "that waited most (\(Figures.significant(1000 * each, 3)) ms each time)"
  }

  /// Runs `body`, one forward of both towers, vision first, over `captions`. All ranks of the group must call it; a
  /// rank that has nothing to embed gives no body.
  func pass(_ captions: [[Int32]], _ body: (() -> Void)? = nil) throws {
    try clock(&waited) { try gatherTokenRows(captions) }
    gather.start(0)
    if let body { body() } else { stages.indices.forEach(willRun) }
    release(stages.count - 1)
    for tokens in [0..<ownTokens.lowerBound, ownTokens.upperBound..<model.config.text.vocabularySize] {
      arena.discard(Self.rows(tokens, of: model.text.tokenEmbedding))
    }
    passes += 1
    if let failure { throw failure }
  }

  /// Waits for a stage, and starts to gather the next. A forward cannot throw, so an error is kept to the pass's end.
  private func willRun(_ stage: Int) {
    clock(&waited) { do { try gather.wait() } catch { failure = failure ?? error } }
    // Only the trial is measured, because the system takes long to count pages.
    if passes == 0 { peak = max(peak, arena.residentBytes) }
    if stage > 0 { release(stage - 1) }
    if stage + 1 < stages.count { gather.start(stage + 1) }
  }

  private func release(_ stage: Int) {
    for range in stages[stage] {
      let own = GatherAhead<Float>.parts(of: range, ranks: group.size)[group.rank]
      arena.discard(range.lowerBound..<own.lowerBound)
      arena.discard(own.upperBound..<range.upperBound)
    }
  }

  private var ownTokens: Range<Int> { group.slice(of: model.config.text.vocabularySize) }

  private static func rows(_ tokens: Range<Int>, of tokenEmbedding: Parameter<Float>) -> Range<Int> {
    let width = tokenEmbedding.shape[1]
    let start = tokenEmbedding.extent.lowerBound
    return start + tokens.lowerBound * width..<start + tokens.upperBound * width
  }

  /// Gathers the rows of all tokens of any rank: the whole token embedding would be larger than a stage.
  private func gatherTokenRows(_ captions: [[Int32]]) throws {
    let own = Set(captions.joined()).sorted()
    var wanted: Set<Int> = []
    for list in try group.allGather(own.littleEndianBytes) {
      for at in stride(from: 0, to: list.count, by: 4) { wanted.insert(Int(list.little(4, at: at))) }
    }
    let tokens = wanted.sorted()
    guard !tokens.isEmpty else { return }
    let tokenEmbedding = model.text.tokenEmbedding.value
    let packed = Tensor<Float>(Shape(tokens.count, tokenEmbedding.columns))
    // The rows of `packed` that each rank keeps, found in one pass: the tokens rise, and so do the ranks' shares.
    var end = 0
    let shares = group.slices(of: tokenEmbedding.rows).map { share in
      let start = end
      while end < tokens.count, tokens[end] < share.upperBound { end += 1 }
      return start..<end
    }
    for row in shares[group.rank] {
      copy(tokenEmbedding.rows(tokens[row]..<tokens[row] + 1), into: packed.rows(row..<row + 1))
    }
    try group.allGather(
      partsOf: packed,
      ranges: shares.map { $0.lowerBound * tokenEmbedding.columns..<$0.upperBound * tokenEmbedding.columns })
    for (row, token) in tokens.enumerated() where !shares[group.rank].contains(row) {
      copy(packed.rows(row..<row + 1), into: tokenEmbedding.rows(token..<token + 1))
    }
  }
}
