/// The masks of one tower that is pruned: one vector over the hidden units, which all blocks share, and for each block
/// one vector over its heads and one over the hidden units of its MLP. Each vector is a range of one flat vector.
public struct TowerMasks: Equatable, Sendable {
  /// The prefix of the names of the tower's parameters: `visual.`, or nothing.
  public let prefix: String
  /// The masks of the hidden units, and of each block's heads and MLP units.
  public let hidden: Range<Int>
  public let heads: [Range<Int>]
  public let units: [Range<Int>]
  /// The width of a head.
  let headWidth: Int
  /// The number of parameters on which sparsity is based: those of the blocks before anything was pruned.
  let prunable: Double
  private let fullWidth: Double

  /// Every vector with its name in logs and checkpoints.
  public var vectors: [(name: String, range: Range<Int>)] {
    [("\(prefix)hidden", hidden)]
      + heads.enumerated().map { ("\(prefix)heads.\($0.offset)", $0.element) }
      + units.enumerated().map { ("\(prefix)units.\($0.offset)", $0.element) }
  }

  /// Lays out the masks of a tower of `width` hidden units in the flat vector, from index `start` on.
  init(prefix: String, width: Int, blocks: BlockSizes, from start: Int) {
    self.prefix = prefix
    headWidth = blocks.headWidth
    hidden = start..<start + width
    var end = hidden.upperBound
    func next(_ count: Int) -> Range<Int> {
      defer { end += count }
      return end..<end + count
    }
    heads = blocks.heads.map { next($0) }
    units = blocks.hidden.map { next($0) }
    let (h, m) = (Double(blocks.fullWidth), Double(blocks.fullHidden))
    // A head has ⌊(4h² + 4h) / H⌋ parameters, which is 4 d (h + 1) because h = H d.
    let head = 4 * Double(blocks.headWidth) * (h + 1)
    prunable = Double(blocks.heads.count) * (Double(blocks.fullHeads) * head + 2 * h * m + h + m)
    fullWidth = h
  }

  /// Returns the expected number of remaining parameters, given the probability P of every mask to be above 0:
  ///
  ///     Σ_hidden P · (Σ_heads P · 4 d (h + 1) / h + 2 Σ_units P)
  ///
  /// Its derivatives by every P, times `weight`, are added to `slope`. As in TinyCLIP the biases of the MLP are not
  /// counted.
  func expected(_ p: [Double], adding weight: Double, to slope: inout [Double]) -> Double {
    let perHead = 4 * Double(headWidth) * (fullWidth + 1) / fullWidth
    let across = hidden.reduce(0) { $0 + p[$1] }
    let along = heads.joined().reduce(0) { $0 + p[$1] } * perHead + 2 * units.joined().reduce(0) { $0 + p[$1] }
    for index in hidden { slope[index] += weight * along }
    for index in heads.joined() { slope[index] += weight * across * perHead }
    for index in units.joined() { slope[index] += weight * across * 2 }
    return across * along
  }
}

/// The layout of all masks of a model.
public struct MaskLayout: Equatable, Sendable {
  public let towers: [TowerMasks]
  /// The length of the flat vector.
  public let count: Int

  /// Every vector of every tower, with its name in logs and checkpoints.
  public var vectors: [(name: String, range: Range<Int>)] { towers.flatMap(\.vectors) }

  /// The number of parameters on which sparsity is based, over all towers.
  var prunable: Double { towers.reduce(0) { $0 + $1.prunable } }

  /// Lays out masks for the vision transformer, the text transformer, or both.
  public init(_ config: CLIPConfig, towers: Towers) {
    var list: [TowerMasks] = []
    var count = 0
    func add(_ prefix: String, _ width: Int, _ blocks: BlockSizes) {
      list.append(TowerMasks(prefix: prefix, width: width, blocks: blocks, from: count))
      count = list.last?.units.last?.upperBound ?? count
    }
    if towers.image { add("visual.", config.vision.width, config.vision.blockSizes) }
    if towers.text { add("", config.text.width, config.text.blockSizes) }
    self.towers = list
    self.count = count
  }

  /// Returns the expected number of remaining parameters over all towers, and adds its derivatives times `weight` to
  /// `slope`: see `TowerMasks`.
  func expected(_ p: [Double], adding weight: Double, to slope: inout [Double]) -> Double {
    towers.reduce(0) { $0 + $1.expected(p, adding: weight, to: &slope) }
  }

  /// Returns the sizes of the model after everything whose mask is 0 is removed.
  func cut(_ config: CLIPConfig, _ masks: [Double]) -> CLIPConfig {
    func alive(_ range: Range<Int>) -> Int { range.count { masks[$0] != 0 } }
    var config = config
    for tower in towers {
      var blocks = tower.prefix.isEmpty ? config.text.blockSizes : config.vision.blockSizes
      blocks.heads = tower.heads.map(alive)
      blocks.hidden = tower.units.map(alive)
      if tower.prefix.isEmpty {
        (config.text.width, config.text.blocks) = (alive(tower.hidden), blocks)
      } else {
        (config.vision.width, config.vision.blocks) = (alive(tower.hidden), blocks)
      }
    }
    return config
  }
}
