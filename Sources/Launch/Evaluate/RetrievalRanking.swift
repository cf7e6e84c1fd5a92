import Dist
import Model
import Tensor

extension DistributedRows {
  /// Counts the places at which queries, these rows, find their answers among candidates. Whole blocks of queries are
  /// dealt to the ranks, and all of them look at one tile of candidates at a time: a rank holds its share of both, and
  /// a tile of `size` rows. `pause` is called before each tile. Every rank must call it, and all get the same.
  func places(
    among candidates: DistributedRows, tile size: Int = Ranking.tile, pause: () throws -> Void,
    answers: @escaping Ranking.Answers
  ) throws -> PlaceCounts {
    let blocks = Ranking.blocks(queries: count)
    let shares = ranks.slices(of: blocks.count).map { share in
      // Ranks without a block stand where the next one begins.
      let begin = share.lowerBound < blocks.count ? blocks[share.lowerBound].lowerBound : count
      return begin..<(share.isEmpty ? begin : blocks[share.upperBound - 1].upperBound)
    }
    let queries = try redistributed(shares)
    var ranking = Ranking(
      queries.own, first: queries.ownRange.lowerBound, candidates: candidates.count, answers: answers)
    let tiles = Ranking.tiles(candidates: candidates.count, size: size)
    let memory = Buffer<Float>()
    func forEachTile(_ body: (Range<Int>, Tensor<Float>) -> Void) throws {
      for range in tiles {
        try pause()
        let tile = memory.tensor(Shape(range.count, candidates.columns))
        try candidates.fill(tile, with: range)
        body(range, tile)
      }
    }
    if tiles.count == 1 {
      try forEachTile { ranking.rank(all: $1) }
    } else {
      try forEachTile { ranking.findAnswers(in: $0, $1) }
      try forEachTile { ranking.countAhead(in: $0, $1) }
    }
    var own = PlaceCounts(candidates: candidates.count)
    own.add(ranking.places)
    var counts = own.counts
    try ranks.allReduce(&counts)
    return PlaceCounts(counts: counts)
  }
}

/// Ranks captions for images, and images for captions.
struct RetrievalRanking {
  let pairs: RetrievalPairs
  var tile = Ranking.tile
  /// All ranks call it before each tile.
  var pause: () throws -> Void = {}

  /// Every rank must call it, and all get the same.
  func places(
    images: DistributedRows, texts: DistributedRows
  ) throws -> (imageToText: PlaceCounts, textToImage: PlaceCounts) {
    let toText = try images.places(among: texts, tile: tile, pause: pause) { [pairs] image, range in
      pairs.captions(answering: image, in: range)
    }
    let toImage = try texts.places(among: images, tile: tile, pause: pause) { [pairs] caption, range in
      pairs.images(answering: caption, in: range)
    }
    return (toText, toImage)
  }
}
