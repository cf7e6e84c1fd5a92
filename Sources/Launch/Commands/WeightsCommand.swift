import ArgumentParser

/// `kinship weights` converts models from and to the forms of other programs.
struct WeightsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "weights",
    abstract: "Imports and exports weights of CLIP models, and shows what a file contains.",
    discussion: """
      Example:

        kinship weights import models/hub/clip-vit-large-patch14 --output models/l14
      """,
    subcommands: [WeightsImport.self, WeightsExport.self, WeightsInspect.self])
}
