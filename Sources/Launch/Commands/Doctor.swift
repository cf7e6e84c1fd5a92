import ArgumentParser

/// `kinship doctor`: what this machine or cluster is, and what is wrong with it.
struct Doctor: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says what this machine or cluster is, and what is wrong with it.")

  @Flag(help: "Prints one JSON object in place of text.")
  var json = false

  func run() throws {}
}
