import ArgumentParser

/// `kinship vocabulary` learns and shows byte-pair vocabularies in CLIP's file format.
struct VocabularyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vocabulary",
    abstract: "Learns and shows byte-pair vocabularies in CLIP's file format.",
    discussion: """
      scripts/fetch-vocabulary fetches CLIP's own.

      Example:

        kinship vocabulary train data/mine --merges 2000 --output words.txt.gz
      """,
    subcommands: [VocabularyTrain.self, VocabularyInspect.self])
}
