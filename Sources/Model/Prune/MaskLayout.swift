/// The masks of one tower that is pruned: one vector over the hidden units, which all blocks share, and for each block
/// one over its heads and one over the hidden units of its MLP. Each vector is a range of one flat vector.
struct TowerMasks: Equatable, Sendable {
  /// The prefix of the names of the tower's parameters: `visual.`, or nothing.
  let prefix: String
  let hidden: Range<Int>
  let heads: [Range<Int>]
  let units: [Range<Int>]
  let blocks: BlockSizes

  init(prefix: String, width: Int, blocks: BlockSizes, from start: Int) {
    (self.prefix, self.blocks) = (prefix, blocks)
    hidden = start..<start + width
    var end = start + width
    func next(_ count: Int) -> Range<Int> {
      defer { end += count }
      return end..<end + count
    }
    heads = blocks.heads.map { next($0) }
    units = blocks.hidden.map { next($0) }
  }

  var end: Int { units.last?.upperBound ?? hidden.upperBound }

  var vectors: [(name: String, range: Range<Int>)] {
    [("\(prefix)hidden", hidden)] + heads.enumerated().map { ("\(prefix)heads.\($0.offset)", $0.element) }
      + units.enumerated().map { ("\(prefix)units.\($0.offset)", $0.element) }
  }

  /// The number of parameters on which sparsity is based: those of the blocks before anything was pruned. Each of the H
  /// heads has ⌊(4h² + 4h) / H⌋, which is 4 d (h + 1) because h = H d.
  var prunable: Double {
    let (h, m) = (Double(blocks.fullWidth), Double(blocks.fullHidden))
    let head = 4 * Double(blocks.headWidth) * (h + 1)
    return Double(heads.count) * (Double(blocks.fullHeads) * head + 2 * h * m + h + m)
  }

  /// Returns the expected number of remaining parameters, given the probability P of every mask to be above 0:
  /// Σ_hidden P · (Σ_heads P · 4 d (h + 1) / h + 2 Σ_units P), without the biases of the MLP as in TinyCLIP. Its
  /// derivatives by every P, times `weight`, are added to `slope`.
  func expected(_ p: [Double], adding weight: Double, to slope: inout [Double]) -> Double {
    let fullWidth = Double(blocks.fullWidth)
    let perHead = 4 * Double(blocks.headWidth) * (fullWidth + 1) / fullWidth
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
  let towers: [TowerMasks]

  /// Lays out masks for the vision transformer, the text transformer, or both.
  public init(_ config: CLIPConfig, towers: Towers) {
    var list: [TowerMasks] = []
    func add(_ prefix: String, _ width: Int, _ blocks: BlockSizes) {
      list.append(TowerMasks(prefix: prefix, width: width, blocks: blocks, from: list.last?.end ?? 0))
    }
    if towers.image { add("visual.", config.vision.width, config.vision.blockSizes) }
    if towers.text { add("", config.text.width, config.text.blockSizes) }
    self.towers = list
  }

  /// The length of the flat vector.
  public var count: Int { towers.last?.end ?? 0 }
  /// Every vector of every tower, with its name in logs and checkpoints.
  public var vectors: [(name: String, range: Range<Int>)] { towers.flatMap(\.vectors) }
  var prunable: Double { towers.reduce(0) { $0 + $1.prunable } }

  func expected(_ p: [Double], adding weight: Double, to slope: inout [Double]) -> Double {
    towers.reduce(0) { $0 + $1.expected(p, adding: weight, to: &slope) }
  }

  func cut(_ config: CLIPConfig, _ masks: [Double]) -> CLIPConfig {
    func alive(_ range: Range<Int>) -> Int { range.count { masks[$0] != 0 } }
    var config = config
    for tower in towers {
      var blocks = tower.blocks
      (blocks.heads, blocks.hidden) = (tower.heads.map(alive), tower.units.map(alive))
      if tower.prefix.isEmpty {
        (config.text.width, config.text.blocks) = (alive(tower.hidden), blocks)
      } else {
        (config.vision.width, config.vision.blocks) = (alive(tower.hidden), blocks)
      }
    }
    return config
  }
}
