import ArgumentParser

/// `kinship weights`: models to and from the forms in which others keep them.
struct WeightsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "weights",
    abstract: "Brings weights of CLIP models in, writes them out for others, and shows what is in a file.",
    subcommands: [WeightsImport.self, WeightsExport.self, WeightsInspect.self])
}
