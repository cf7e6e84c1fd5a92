import ArgumentParser

/// `kinship weights inspect` shows what a file of weights contains.
struct WeightsInspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Shows the tensors of a file of weights, and whether they fit the sizes beside it.",
    discussion: """
      It reads and checks the same files as import; if sizes are given or lie beside the file, it lists every \
      difference.

      Example:

        kinship weights inspect models/b32
      """)

  @Argument(help: ArgumentHelp("The file of weights, or its folder.", valueName: "input")) var input: String

  @OptionGroup var options: WeightsOptions

  func run() throws {
    guard Machine.isFirstRank else { return }
    print(try WeightsReport(input, config: options.config, preset: options.preset).text)
  }
}
