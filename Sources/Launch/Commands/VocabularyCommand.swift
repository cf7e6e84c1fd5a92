import ArgumentParser

/// `kinship vocabulary`: byte-pair vocabularies in CLIP's file format.
struct VocabularyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vocabulary",
    abstract: "Learns and shows byte-pair vocabularies in CLIP's file format.",
    discussion: "scripts/fetch-vocabulary fetches CLIP's own.",
    subcommands: [VocabularyTrain.self, VocabularyInspect.self])
}
