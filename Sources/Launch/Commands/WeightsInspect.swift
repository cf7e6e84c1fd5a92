import ArgumentParser

/// `kinship weights inspect`: what is in a file of weights.
struct WeightsInspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Shows the tensors of a file of weights, and whether they fit the sizes beside it.",
    discussion: """
      Reads what import reads, and checks it like import; where sizes are given or lie beside the file, every \
      difference is listed.
      """)

  @Argument(help: ArgumentHelp("The file of weights, or its folder.", valueName: "input")) var input: String

  @OptionGroup var options: WeightsOptions

  func run() throws {
    guard Machine.isFirstRank else { return }
    print(try WeightsReport(input, config: options.config, preset: options.preset).text)
  }
}
