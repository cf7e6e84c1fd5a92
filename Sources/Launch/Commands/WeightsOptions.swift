import ArgumentParser
import Dist
import Foundation

/// Which weights, and what says their sizes.
struct WeightsOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("The JSON file with the model's sizes. Default: the one beside the weights.", valueName: "file"))
  var config: String?

  @Option(
    help: ArgumentHelp(
      "The name of the model's sizes, where no file says them; NAME-quickgelu for QuickGELU.", valueName: "name"))
  var preset: String?

  func validate() throws {
    guard config == nil || preset == nil else {
      throw ValidationError("--config and --preset both say the model's sizes; leave one out")
    }
  }
}

/// A folder for a model, which must not have one yet.
struct ModelFolder: ParsableArguments {
  @Option(name: .shortAndLong, help: ArgumentHelp("The folder to write; it is made.", valueName: "folder"))
  var output: String

  /// Makes the folder. One that has a file of one of these names is refused.
  func make(for names: [String]) throws -> URL {
    let folder = URL(filePath: output, directoryHint: .isDirectory)
    for name in names {
      let path = folder.appending(path: name).relativePath
      guard !FileManager.default.fileExists(atPath: path) else {
        throw ModelFileError(path: path, exitCode: 64, reason: "is there already; remove it, or name another folder")
      }
    }
    try Publish.makeFolder(output)
    return folder
  }
}
