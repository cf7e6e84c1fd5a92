import ArgumentParser
import Dist

/// `kinship evaluate zero-shot`.
struct EvaluateZeroShot: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zero-shot",
    abstract: "Classification of pictures by the names of classes.",
    discussion: """
      A class's embedding is the mean of the unit embeddings of its name in every template, made a unit again. \
      Pictures without a label are left out. With --subset the model chooses among these classes only, and only their \
      pictures are classified; --subset present takes those of which the corpus has pictures, as for ImageNet-R.

      scripts/fetch-vocabulary also fetches OpenAI's 80 templates (templates.txt) and the class names of ImageNet.

      The JSON file has kind, checkpoint, step, corpus, pictures, classes (chosen among), of_classes (all), templates, \
      top1_correct, top5_correct (counts), top1 and top5 (shares, 0 to 1).
      """)

  @OptionGroup var evaluation: EvaluationOptions

  @Option(
    help: ArgumentHelp(
      "The names of the classes, one a line, in the order of the labels. Default: those in the corpus's index.",
      valueName: "file"))
  var classes: String?

  @Option(
    help: ArgumentHelp("Templates, one a line, {} in place of the name. Default: the name alone.", valueName: "file"))
  var templates: String?

  @Option(
    help: ArgumentHelp(
      "The names of the classes to restrict to, one a line; or the word present.", valueName: "file|present"))
  var subset: String?

  func run() throws {
    try evaluation.run { embedder, corpus, communicator in
      try ZeroShotEvaluation(corpus: corpus, classes: classes, templates: templates, subset: subset)
        .run(embedder, over: communicator)
    }
  }
}
