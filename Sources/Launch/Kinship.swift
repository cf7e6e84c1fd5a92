internal import ArgumentParser

/// The root command: configuration only.
@main
struct Kinship: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kinship",
    abstract: "Distils large CLIP-style models into small ones, on clusters of CPU machines.")
}
