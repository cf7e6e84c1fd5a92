import ArgumentParser
import Dist

/// `kinship evaluate retrieval` measures recall between images and captions.
struct EvaluateRetrieval: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "retrieval",
    abstract: "Measures the recall of captions by images, and of images by captions.",
    discussion: """
      The right answers to an image are its own captions and all captions with the same cleaned text; the best one \
      counts, and the others do not worsen its rank. In the other direction, every image that has the caption is a \
      right answer. With --duplicates strict only the dataset's own pairs are right. Equal scores are ranked in the \
      dataset's order. The paper's figures are those of --captions first --duplicates strict.

      The JSON file has kind, checkpoint, step, dataset, images, captions (how many took part), captions_taken, \
      candidates, duplicates, and under image_to_text and text_to_image: queries, candidates, hits@1, hits@5, hits@10 \
      (counts), R@1, R@5, R@10 (shares, 0 to 1), median_rank and mean_rank (1 is the best).

      Example:

        kinship evaluate retrieval --checkpoint runs/mine --dataset data/val
      """)

  @OptionGroup var evaluation: EvaluationOptions

  @Option(help: "Captions to choose from: all (captions), or each distinct text once (distinct-captions).")
  var candidates = RetrievalEvaluation.Candidates.captions

  @Option(help: "Which of an image's captions take part: all, or the first one (first).")
  var captions = RetrievalEvaluation.Captions.all

  @Option(help: "Whether equal captions of other images are right answers too (hits) or wrong ones (strict).")
  var duplicates = RetrievalEvaluation.Duplicates.hits

  func validate() throws {
    guard candidates == .captions || duplicates == .hits else {
      throw ValidationError(
        "--candidates distinct-captions takes equal captions for one and --duplicates strict does not; leave one out")
    }
  }

  func run() throws {
    try evaluation.run { embedder, dataset, communicator in
      try RetrievalEvaluation(dataset: dataset, candidates: candidates, captions: captions, duplicates: duplicates)
        .run(embedder, over: communicator)
    }
  }
}
