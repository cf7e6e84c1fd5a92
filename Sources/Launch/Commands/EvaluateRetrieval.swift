import ArgumentParser
import Dist

/// `kinship evaluate retrieval`.
struct EvaluateRetrieval: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "retrieval",
    abstract: "Recall of captions by pictures, and of pictures by captions.",
    discussion: """
      A picture's answers are its own captions, and all captions of the same text once cleaned; the best one counts \
      and the others do not stand in its way. The other way round, every picture that has the caption is an answer. \
      With --duplicates strict only pairs of the corpus are answers. Equal scores are in the corpus's order. The \
      paper's figures are those of --captions first --duplicates strict.

      The JSON file has kind, checkpoint, step, corpus, pictures, captions (how many took part), captions_taken, \
      candidates, duplicates, and under image_to_text and text_to_image: queries, candidates, hits@1, hits@5, hits@10 (counts), R@1, R@5, R@10 (shares, 0 to 1), \
      median_rank and mean_rank (1 is the best).
      """)

  @OptionGroup var evaluation: EvaluationOptions

  @Option(help: "Captions that take part: all (captions), or each different text once (distinct-captions).")
  var candidates = RetrievalEvaluation.Candidates.captions

  @Option(help: "Which of a picture's captions take part: all, or the first one (first).")
  var captions = RetrievalEvaluation.Captions.all

  @Option(help: "Equal captions of other pictures are right answers too (hits), or wrong ones (strict).")
  var duplicates = RetrievalEvaluation.Duplicates.hits

  func validate() throws {
    guard candidates == .captions || duplicates == .hits else {
      throw ValidationError(
        "--candidates distinct-captions takes equal captions for one and --duplicates strict does not; leave one out")
    }
  }

  func run() throws {
    try evaluation.run { embedder, corpus, communicator in
      try RetrievalEvaluation(corpus: corpus, candidates: candidates, captions: captions, duplicates: duplicates)
        .run(embedder, over: communicator)
    }
  }
}
