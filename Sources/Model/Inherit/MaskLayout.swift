/// The masks of one tower that is pruned: one vector over the hidden units, which all blocks share, and for each block
/// one over its heads and one over the hidden units of its MLP. Each is a range of one flat vector.
public struct TowerMasks: Equatable, Sendable {
  /// What the names of the tower's parameters begin with: `visual.`, or nothing.
  public let prefix: String
  public let hidden: Range<Int>
  public let heads: [Range<Int>]
  public let units: [Range<Int>]
  let headWidth: Int
  /// The parameters that sparsity counts from: those of the blocks before anything was pruned.
  let prunable: Double
  private let fullWidth: Double

  /// Every vector by its name, for log and checkpoint.
  public var vectors: [(name: String, range: Range<Int>)] {
    [("\(prefix)hidden", hidden)]
      + heads.enumerated().map { ("\(prefix)heads.\($0.offset)", $0.element) }
      + units.enumerated().map { ("\(prefix)units.\($0.offset)", $0.element) }
  }

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
    // ⌊(4h² + 4h) / H⌋ for a head, which with h = H d is 4 d (h + 1).
    let head = 4 * Double(blocks.headWidth) * (h + 1)
    prunable = Double(blocks.heads.count) * (Double(blocks.fullHeads) * head + 2 * h * m + h + m)
    fullWidth = h
  }

  /// The parameters that are expected to be left, from the probability of every mask to be above 0, and their
  /// derivatives, which are added times `weight`:
  ///
  ///     Σ_hidden P · (Σ_heads P · 4 d (h + 1) / h + 2 Σ_units P)
  ///
  /// As in TinyCLIP the MLP's biases are left out.
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

/// All masks of a model.
public struct MaskLayout: Equatable, Sendable {
  public let towers: [TowerMasks]
  /// Numbers in the flat vector.
  public let count: Int

  /// Masks for the vision transformer, the text transformer, or both.
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

  /// The sizes of the model that masks like these cut.
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

  /// Every vector of every tower.
  public var vectors: [(name: String, range: Range<Int>)] { towers.flatMap(\.vectors) }
}
