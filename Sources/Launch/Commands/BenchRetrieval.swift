import ArgumentParser
import Foundation
import Model

extension Bench {
  struct Retrieval: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Times the ranking of a retrieval evaluation on made-up embeddings, and measures its memory.",
      discussion: help(
        """
        Each rank holds its share of the embeddings of images and captions, and all of them look at one tile of \
        candidates at a time; what is measured is the ranking of captions for images and of images for captions. The \
        made-up embeddings are whole numbers, so the figures are the same to the last digit on any number of ranks. \
        The last line is one JSON object, with the memory that kinship plan predicts beside the measured one.
        """, example: "mpirun -n 2 kinship bench retrieval --images 10000"))

    @Option(help: "Images.") var images = 100_000
    @Option(help: "Captions of each image.") var captionsPerImage = 1
    @Option(help: "Width of the embeddings.") var width = 512
    @Option(help: "Candidates in a tile.") var tile = Ranking.tile

    func validate() throws {
      try require(
        [images, captionsPerImage, width, tile].allSatisfy { Bench.pairs ~= $0 }
          && captionsPerImage <= Bench.pairs.upperBound / images,
        "--images, --captions-per-image, --width and --tile are \(Bench.pairs.text), and so is the number of captions")
    }

    func run() throws {
      let bench = RetrievalBench(images: images, captionsPerImage: captionsPerImage, width: width, tile: tile)
      try Bench.run(keys: .useDefaultKeys) { try bench.run($0, log: $1) }
    }
  }
}
