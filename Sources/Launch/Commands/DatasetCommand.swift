import ArgumentParser

/// `kinship dataset` makes and checks datasets of images and captions in HDF5 shards.
struct DatasetCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dataset", abstract: "Makes, shows and checks datasets: images and captions in HDF5 shards.",
    discussion: """
      Example:

        kinship dataset import images.tsv --output data/mine
      """,
    subcommands: [DatasetImport.self, DatasetInspect.self, DatasetVerify.self], aliases: ["corpus"])
}
