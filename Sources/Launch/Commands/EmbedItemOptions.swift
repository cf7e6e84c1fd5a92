import ArgumentParser
import Foundation

/// What `kinship embed` is given.
struct EmbedItemOptions: ParsableArguments {
  @Option(help: "The corpus whose pictures are embedded: its index file or folder.") var corpus: String?

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      """
      Pictures (JPEG, PNG, WebP): files, folders (with those below them, in the order of their names' bytes), or \
      patterns in quotes, such as 'photos/*.jpg'.
      """, valueName: "paths"))
  var pictures: [String] = []

  @Option(
    help: ArgumentHelp("A text file of pictures' paths, one a line; - is standard input.", valueName: "file"))
  var pictureList: String?

  @Option(help: ArgumentHelp("A text file of captions, one a line; - is standard input.", valueName: "file"))
  var captions: String?

  @Option(parsing: .upToNextOption, help: ArgumentHelp("Captions, before those of a file.", valueName: "captions"))
  var text: [String] = []

  @Flag(help: "Leaves out pictures that cannot be read, and names them. Default: the first one is an error.")
  var skipBad = false

  func validate() throws {
    let own = !pictures.isEmpty || pictureList != nil
    guard corpus != nil || own || captions != nil || !text.isEmpty else {
      throw ValidationError("nothing to embed: give --corpus or --pictures, --captions or --text")
    }
    guard corpus == nil || !own else {
      throw ValidationError("--corpus and --pictures both name the pictures; leave one out")
    }
    guard !skipBad || own else {
      throw ValidationError("--skip-bad belongs to --pictures and --picture-list; a corpus has no bad pictures")
    }
    guard pictureList != "-" || captions != "-" else {
      throw ValidationError("--picture-list and --captions cannot both be standard input")
    }
    guard !text.contains(where: { $0.allSatisfy(\.isWhitespace) }) else {
      throw ValidationError("--text: a caption is empty")
    }
  }

  /// The files and texts that are meant.
  func find() throws -> EmbeddingItems {
    EmbeddingItems(
      pictures: try pictures.flatMap(EmbeddingItems.pictures) + (try pictureList.map { try Prompts.lines($0) } ?? []),
      texts: text + (try captions.map { try Prompts.lines($0) } ?? []))
  }
}
