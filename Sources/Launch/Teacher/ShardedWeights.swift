import Dist
import Foundation
import Model
import Tensor

/// A model whose weights live over the ranks of a group: each keeps 1/K of every stage of the towers, and of each token
/// embedding row that is wanted. A stage is gathered while the one before it computes, and its room is given back when
/// it is done.
///
/// The model's arena has addresses for all weights; memory has the own parts and two stages.
final class ShardedWeights {
  let model: CLIP<Float>
  /// Seconds that were waited for weights, in all passes after the trial.
  private(set) var waited = 0.0
  private(set) var passes = 0
  /// The most bytes of weights that this rank had in memory at once.
  private(set) var peak = 0
  let group: Communicator

  private let arena: ReservedArena<Float>
  private let gather: GatherAhead<Float>
  /// The stages of the vision tower, then those of the text tower.
  private let stages: [[Range<Int>]]
  private var failure: (any Error)?

  /// Reads this rank's parts and tries one pass. All ranks of the group must call it.
  init(
    _ config: CLIPConfig, over group: Communicator, read: (CLIP<Float>, _ ranges: [Range<Int>]) throws -> Void
  ) throws {
    self.group = group
    arena = ReservedArena(count: CLIP<Float>.layout(config).count)
    model = CLIP(config, frozen: true, values: arena.values)
    stages = CLIP<Float>.stages(config)
    gather = GatherAhead(arena.values, stages: stages, over: group)
    let tokenEmbedding = model.text.tokenEmbedding
    // The scale is one number, and everybody's.
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

  /// Bytes of the two stages that take most.
  var twoStages: Int {
    let sizes = stages.map { $0.reduce(0) { $0 + $1.count } }.sorted()
    return sizes.suffix(2).reduce(0, +) * MemoryLayout<Float>.stride
  }

  /// What waiting has cost, for the log. Every rank must call it.
  func text(over ranks: Communicator) throws -> String {
    let seconds = try ranks.allReduce(waited, .maximum)
    let each = passes == 0 ? 0 : seconds / Double(passes)
    return "teacher's weights: gathered \(passes) times, waited \(Figures.fixed(seconds, 2)) s for them on the rank "
      + "that waited most (\(Figures.significant(1000 * each, 3)) ms each time)"
  }

  /// The most of a number that any rank of the group has.
  func most(_ count: Int) throws -> Int { try group.allReduce(count, .maximum) }

  /// Runs forwards of both towers, vision first, within `body`; or none, where other ranks have some. All ranks of the
  /// group must call it. `captions` are those of the forward.
  func pass(_ captions: [[Int32]], _ body: (() -> Void)? = nil) throws {
    try clock(&waited) { try gatherRows(captions) }
    gather.start(0)
    if let body { body() } else { stages.indices.forEach(willRun) }
    release(stages.count - 1)
    for token in [0..<ownTokens.lowerBound, ownTokens.upperBound..<model.config.text.vocabularySize] {
      arena.discard(Self.rows(token, of: model.text.tokenEmbedding))
    }
    passes += 1
    if let failure { throw failure }
  }

  /// What is waited for before a stage. A forward cannot throw: the pass does, after it.
  private func willRun(_ stage: Int) {
    clock(&waited) {
      do {
        try gather.wait()
      } catch { failure = failure ?? error }
    }
    // Of the trial alone, for the system takes its time to count pages.
    if passes == 0 { peak = max(peak, arena.residentBytes) }
    if stage > 0 { release(stage - 1) }
    if stage + 1 < stages.count { gather.start(stage + 1) }
  }

  /// Gives back what other ranks keep of a stage.
  private func release(_ stage: Int) {
    for range in stages[stage] {
      let own = GatherAhead<Float>.parts(of: range, ranks: group.size)[group.rank]
      arena.discard(range.lowerBound..<own.lowerBound)
      arena.discard(own.upperBound..<range.upperBound)
    }
  }

  // MARK: The token embedding

  /// The tokens whose rows this rank keeps.
  private var ownTokens: Range<Int> { group.slice(of: model.config.text.vocabularySize) }

  private static func rows(_ tokens: Range<Int>, of tokenEmbedding: Parameter<Float>) -> Range<Int> {
    let width = tokenEmbedding.shape[1]
    let start = tokenEmbedding.extent.lowerBound
    return start + tokens.lowerBound * width..<start + tokens.upperBound * width
  }

  /// Gathers the rows of all tokens that any rank of the group has in these captions: the token embedding is larger
  /// than a block, and few of its rows are wanted.
  private func gatherRows(_ captions: [[Int32]]) throws {
    let own = Set(captions.joined()).sorted()
    let bytes = own.flatMap { token in (0..<4).map { UInt8(truncatingIfNeeded: token >> (8 * $0)) } }
    var wanted: Set<Int> = []
    for list in try group.allGather(bytes) {
      for at in stride(from: 0, to: list.count, by: 4) {
        wanted.insert((0..<4).reduce(0) { $0 | Int(list[at + $1]) << (8 * $1) })
      }
    }
    let tokens = wanted.sorted()
    guard !tokens.isEmpty else { return }
    let tokenEmbedding = model.text.tokenEmbedding.value
    let packed = Tensor<Float>(Shape(tokens.count, tokenEmbedding.columns))
    let places = group.slices(of: tokenEmbedding.rows).map { share in
      (tokens.firstIndex { $0 >= share.lowerBound } ?? tokens.count)..<(tokens.firstIndex { $0 >= share.upperBound }
        ?? tokens.count)
    }
    for place in places[group.rank] {
      copy(tokenEmbedding.rows(tokens[place]..<tokens[place] + 1), into: packed.rows(place..<place + 1))
    }
    try group.allGather(
      partsOf: packed,
      ranges: places.map { $0.lowerBound * tokenEmbedding.columns..<$0.upperBound * tokenEmbedding.columns })
    for (place, token) in tokens.enumerated() where !places[group.rank].contains(place) {
      copy(packed.rows(place..<place + 1), into: tokenEmbedding.rows(token..<token + 1))
    }
  }
}
