import ArgumentParser
import Dist
import Foundation

struct DatasetScore: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "score", abstract: "Computes how well captions fit their images by a model, to filter a dataset.",
    discussion: help(
      """
      It runs alone or under mpirun, with the same numbers on any number of ranks. The table has a line for each \
      sample in the dataset's order, with the columns key, similarity, similarity_min and similarity_max, separated by \
      tabs: the mean, least and largest cosine of the image's embedding with those of its captions. They are empty for \
      a sample without captions. It also prints which thresholds would keep which shares.

      kinship dataset import DATASET --scores TABLE --keep 'similarity>0.28' --output OTHER then makes a dataset of \
      the samples whose captions fit.
      """, example: "kinship dataset score data/mine --checkpoint runs/mine --output scores.tsv"))

  @OptionGroup var source: ModelSource
  @Argument(help: "The dataset's folder, or its index.") var dataset: String
  @Option(help: ArgumentHelp("The table to write; it must not exist.", valueName: "file")) var output: String
  @Option(
    help: """
      Samples whose embeddings each rank holds at a time. The last digits of scores may differ with another number.
      """)
  var partSamples = 16_384

  func validate() throws {
    try require(1...1 << 24 ~= partSamples, "--part-samples must be from 1 to \(1 << 24), found \(partSamples)")
  }

  func run() throws {
    try Job.perform { communicator in
      try ThreadPlan.agreed(over: communicator).apply()
      guard !FileManager.default.fileExists(atPath: output) else {
        throw UserError(output, "is there already; remove it, or name another file", status: .usage)
      }
      let dataset = try Dataset.open(dataset, over: communicator)
      guard dataset.index.totals.captions > 0 else { throw dataset.nothingToEvaluate("captions") }
      let (embedder, _) = try source.load(over: communicator)
      if communicator.rank == 0 { embedder.reportPreparation() }
      let encoder = BlockEncoder(embedder: embedder, communicator: communicator)
      let scores = PairScores(dataset, by: encoder, partSamples: partSamples)
      // The others compute as well, but rank 0 alone receives the scores.
      guard communicator.rank == 0 else { return try scores.compute { _ in } }
      var pace = ProgressPace()
      let summary = try PairScoreFile.write(to: output) { table in
        try scores.compute { sample in
          try table.add(sample, key: dataset.key(sample.number))
          let done = sample.number + 1
          guard done % scores.part == 0, done < dataset.count, pace.isDue() else { return }
          Job.report("\(done) of \(dataset.count) images, \(pace.left(done: done, of: dataset.count)) left")
        }
      }
      try StandardOutput.print(summary)
    }
  }
}
