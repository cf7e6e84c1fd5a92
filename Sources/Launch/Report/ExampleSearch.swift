import Dist
import Model

/// Finds examples for a report: in the corpus that the user names, or in those on which the run evaluates.
struct ExampleSearch {
  let run: ReportedRun
  /// The user's corpus; what is wrong with it ends the command. With the run's own a page does without.
  let corpus: String?
  let vocabulary: String?
  let count: Int
  /// A communicator of one rank.
  let ranks: Communicator

  func section() throws -> ExamplesSection {
    if let corpus { return ExamplesSection(examples: [try examples(corpus, .all, try embedder())]) }
    let evaluations = run.config?.evaluate.evaluations.filter { $0.kind == .retrieval } ?? []
    guard !evaluations.isEmpty else {
      return ExamplesSection(examples: [], missing: ["The run names no corpus for retrieval. \(advice)"])
    }
    var section = ExamplesSection(examples: [])
    do {
      let embedder = try embedder()
      var seen: Set<String> = []
      for evaluation in evaluations where seen.insert(evaluation.corpus).inserted {
        do {
          section.examples.append(try examples(evaluation.corpus, evaluation.captions ?? .all, embedder))
        } catch { section.missing.append("No examples of \(evaluation.corpus): \(error). \(advice)") }
      }
    } catch { section.missing.append("No examples: \(error).") }
    return section
  }

  private var advice: String { "Type kinship report \(run.path) --corpus FOLDER to see examples of another one." }

  private func embedder() throws -> (CLIPEmbedder, step: Int) {
    let trained = try TrainedModel(run.path, over: ranks)
    let tokenizer = BytePairTokenizer(
      vocabulary: try trained.vocabulary(at: vocabulary), context: trained.model.config.text.contextLength)
    return (CLIPEmbedder(trained.model, image: trained.saved.image, tokenizer: tokenizer), trained.step)
  }

  private func examples(
    _ path: String, _ captions: RetrievalEvaluation.Captions, _ model: (CLIPEmbedder, step: Int)
  ) throws -> RetrievalExamples {
    try RetrievalExamples(
      model.0, step: model.step, corpus: try Corpus.open(path), captionsTaken: captions, count: count, over: ranks)
  }
}
