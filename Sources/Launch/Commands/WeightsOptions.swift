import ArgumentParser
import Dist
import Foundation

/// The options that name the sizes of a model's weights.
struct WeightsOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("The JSON file with the model's sizes. Default: the one beside the weights.", valueName: "file"))
  var config: String?

  @Option(
    help: ArgumentHelp(
      "The preset of the model's sizes, where no file gives them; NAME-quickgelu for QuickGELU.", valueName: "name"))
  var preset: String?

  func validate() throws {
    guard config == nil || preset == nil else {
      throw ValidationError("--config and --preset both say the model's sizes; leave one out")
    }
  }
}

/// A folder to which a model is written, and which must not hold one yet.
struct ModelFolder: ParsableArguments {
  @Option(name: .shortAndLong, help: ArgumentHelp("The folder to write; it is created.", valueName: "folder"))
  var output: String

  /// Makes the folder and returns it. A folder that has a file with one of these names is refused.
  func make(for names: [String]) throws -> URL {
    let folder = URL(filePath: output, directoryHint: .isDirectory)
    for name in names {
      let path = folder.appending(path: name).relativePath
      guard !FileManager.default.fileExists(atPath: path) else {
        throw UserError(path, "is there already; remove it, or name another folder", status: .usage)
      }
    }
    try Publish.makeFolder(output)
    return folder
  }
}
