import Dist
import Model
import Tensor

/// The memory that a rank needs for a retrieval evaluation beside the model, in bytes: its share of the embeddings, one
/// tile, and what every rank holds of every caption and image.
struct EvaluationEstimate: Codable, Equatable {
  let name: String
  let images, captions: Int
  let memory: [RunEstimate.Part]

  var bytes: Int { memory.reduce(0) { $0 + $1.bytes } }

  /// Estimates one of `ranks` ranks for embeddings of `width` numbers. `tile` is the number of candidates in a tile.
  init(_ name: String, images: Int, captions: Int, width: Int, ranks: Int, tile: Int = Ranking.tile) {
    (self.name, self.images, self.captions) = (name, images, captions)
    let row = 4 * width
    /// Returns the most rows of a rank if blocks of `height` rows are dealt.
    func share(_ count: Int, _ height: Int) -> Int {
      let blocks = (count + height - 1) / height
      return min(count, (blocks + ranks - 1) / ranks * height)
    }
    let candidates = min(max(images, captions), tile)
    let queries = max(share(images, Ranking.height), share(captions, Ranking.height))
    memory = [
      .init(
        name: "share of the embeddings",
        bytes: row * (share(images, BlockEncoder.height) + share(captions, BlockEncoder.height))),
      // On one rank the queries are its embeddings themselves.
      .init(name: "share of the queries", bytes: queries * (Ranking.bytesOfQuery + (ranks > 1 ? row : 0))),
      .init(name: "tile and its scores", bytes: candidates * (row + 4 * min(queries, Ranking.height))),
      .init(
        name: "pairs of images and captions",
        bytes: RetrievalPairs.bytes(images: images, captions: captions) + EvaluatedCaptions.bytes(captions)),
      // A count for each place, once as a sum; a query's place.
      .init(name: "places", bytes: 16 * max(images, captions) + 16 * queries),
    ]
  }

  /// Throws a `UserError` if there is not enough memory for it beside what the ranks hold already. Every rank must call
  /// it.
  func requireMemory(over ranks: Communicator) throws {
    try MemoryDemand(
      subject: "the ranking of \(name)", parts: memory,
      advice: "start more ranks on more nodes, each of which then has a smaller share"
    ).require(over: ranks)
  }

  /// The estimate in one line: `retrieval val: 5000 images and 25010 captions, 150 MiB a rank beside the model (…)`.
  var text: String {
    "\(name): \(Figures.count(images, "image")) and \(Figures.count(captions, "caption")), "
      + "\(Figures.bytes(bytes)) a rank beside the model (\(RunEstimate.list(memory)))"
  }
}
