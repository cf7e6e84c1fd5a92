import ArgumentParser
import Dist

/// `kinship evaluate zero-shot` classifies images by the names of classes.
struct EvaluateZeroShot: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zero-shot",
    abstract: "Classifies images by the names of classes.",
    discussion: """
      The embedding of a class is the mean of the unit embeddings of its name in every template, normalized again. \
      Images without a label are left out. With --subset the model chooses among these classes only, and only their \
      images are classified; --subset present takes those of which the dataset has images, as for ImageNet-R.

      scripts/fetch-vocabulary also fetches OpenAI's 80 templates (templates.txt) and the class names of ImageNet.

      Example:

        kinship evaluate zero-shot --checkpoint runs/mine --dataset data/labelled

      The JSON file has kind, checkpoint, step, dataset, images, classes (chosen among), of_classes (all), templates, \
      top1_correct, top5_correct (counts), top1 and top5 (shares, 0 to 1).
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
    try evaluation.run { embedder, dataset, communicator in
      try ZeroShotEvaluation(dataset: dataset, classes: classes, templates: templates, subset: subset)
        .run(embedder, over: communicator)
    }
  }
}
