import ArgumentParser
import Dist

struct EvaluateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate", abstract: "Measures a model: retrieval and zero-shot classification.",
    discussion: help(
      """
      It runs alone or under mpirun. Images and texts are encoded in blocks of a fixed size that are distributed over \
      the ranks, and the results are whole counts: they are equal on any number of ranks with the same BLAS kernel and \
      threads. A rank holds its share of the embeddings, and looks at those of the others a tile at a time.

      With --interpolate-to it evaluates the models between two, (1 - t) times the first and t times the second, as \
      WiSE-FT does between a model and its tuned form: a line of figures for each t. kinship merge --weights 1-t,t \
      writes such a model. The JSON file then has checkpoint, interpolate_to, alpha and points, which have the figures \
      and t as weight.
      """, example: "kinship evaluate retrieval --checkpoint runs/mine --dataset data/val"),
    subcommands: [EvaluateRetrieval.self, EvaluateZeroShot.self])
}

struct EvaluateRetrieval: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "retrieval", abstract: "Measures the recall of captions by images, and of images by captions.",
    discussion: help(
      """
      The right answers to an image are its own captions and all captions with the same cleaned text; the best one \
      counts, and the others do not worsen its rank. In the other direction, every image that has the caption is a \
      right answer. With --duplicates strict only the dataset's own pairs are right. Equal scores are ranked in the \
      dataset's order. The paper's figures are those of --captions first --duplicates strict.

      The JSON file has kind, checkpoint, step, alpha, corpus (the dataset), pictures (how many images), captions (how \
      many took part), captions_taken, candidates, duplicates, and under image_to_text and text_to_image: queries, \
      candidates, hits@1, hits@5, hits@10 (counts), R@1, R@5, R@10 (shares, 0 to 1), median_rank and mean_rank (1 is \
      the best), and MRR, the mean reciprocal rank over all candidates (0 to 1).
      """, example: "kinship evaluate retrieval --checkpoint runs/mine --dataset data/val"))

  @OptionGroup var evaluation: EvaluationOptions
  @Option(help: "Captions to choose from: all (captions), or each distinct text once (distinct-captions).")
  var candidates = RetrievalEvaluation.Candidates.captions
  @Option(help: "Which of an image's captions take part: all, or the first one (first).")
  var captions = RetrievalEvaluation.Captions.all
  @Option(help: "Whether equal captions of other images are right answers too (hits) or wrong ones (strict).")
  var duplicates = RetrievalEvaluation.Duplicates.hits

  func validate() throws {
    try require(
      candidates == .captions || duplicates == .hits,
      "--candidates distinct-captions takes equal captions for one and --duplicates strict does not; leave one out")
  }

  func run() throws {
    try evaluation.run { dataset, _ in
      RetrievalEvaluation(dataset: dataset, candidates: candidates, captions: captions, duplicates: duplicates)
    }
  }
}

struct EvaluateZeroShot: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zero-shot", abstract: "Classifies images by the names of classes.",
    discussion: """
      The embedding of a class is the mean of the unit embeddings of its name in every template, normalized again. \
      Images without a label are left out. With --subset the model chooses among these classes only, and only their \
      images are classified; --subset present takes those of which the dataset has images, as for ImageNet-R.

      scripts/fetch-vocabulary also fetches OpenAI's 80 templates (templates.txt) and the class names of ImageNet.

      Example:

        kinship evaluate zero-shot --checkpoint runs/mine --dataset data/labelled

      The JSON file has kind, checkpoint, step, alpha, corpus (the dataset), pictures (how many images), classes \
      (chosen among), of_classes (all), templates, top1_correct, top5_correct (counts), top1 and top5 (shares, 0 to 1).
      """)

  @OptionGroup var evaluation: EvaluationOptions
  @Option(
    help: ArgumentHelp(
      "The names of the classes, one per line, in the order of the labels. Default: those in the dataset's index.",
      valueName: "file"))
  var classes: String?
  @Option(
    help: ArgumentHelp("Templates, one per line, {} in place of the name. Default: the name alone.", valueName: "file"))
  var templates: String?
  @Option(
    help: ArgumentHelp(
      "The names of the classes to restrict to, one per line; or the word present.", valueName: "file|present"))
  var subset: String?

  func run() throws {
    try evaluation.run { dataset, communicator in
      try ZeroShotEvaluation(
        dataset: dataset, classes: classes, templates: templates, subset: subset, over: communicator)
    }
  }
}
