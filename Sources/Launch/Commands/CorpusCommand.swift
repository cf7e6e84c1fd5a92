import ArgumentParser

/// `kinship corpus`: pictures and captions as HDF5 shards.
struct CorpusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "corpus", abstract: "Makes, shows and checks corpora: pictures and captions in HDF5 shards.",
    subcommands: [CorpusImport.self, CorpusInspect.self, CorpusVerify.self])
}
