import ArgumentParser
import Foundation

/// The images and captions that `kinship embed` is given.
struct EmbedItemOptions: ParsableArguments {
  @Option(
    name: [.long, .customLong("corpus")], help: "The dataset whose images are embedded: its index file or folder.")
  var dataset: String?

  @Option(
    name: [.long, .customLong("pictures")], parsing: .upToNextOption,
    help: ArgumentHelp(
      """
      Images (JPEG, PNG, WebP): files, folders (with their sub-folders, in the byte order of their names), or \
      patterns in quotes, such as 'photos/*.jpg'.
      """, valueName: "paths"))
  var images: [String] = []

  @Option(
    name: [.long, .customLong("picture-list")],
    help: ArgumentHelp("A text file of image paths, one per line; - is standard input.", valueName: "file"))
  var imageList: String?

  @Option(help: ArgumentHelp("A text file of captions, one per line; - is standard input.", valueName: "file"))
  var captions: String?

  @Option(
    parsing: .upToNextOption, help: ArgumentHelp("Captions; they precede those of a file.", valueName: "captions"))
  var text: [String] = []

  @Flag(help: "Leaves out images that cannot be read, and lists them. Default: the first one is an error.")
  var skipBad = false

  func validate() throws {
    let own = !images.isEmpty || imageList != nil
    guard dataset != nil || own || captions != nil || !text.isEmpty else {
      throw ValidationError("nothing to embed: give --dataset or --images, --captions or --text")
    }
    guard dataset == nil || !own else {
      throw ValidationError("--dataset and --images both name the images; leave one out")
    }
    guard !skipBad || own else {
      throw ValidationError("--skip-bad belongs to --images and --image-list; a dataset has no bad images")
    }
    guard imageList != "-" || captions != "-" else {
      throw ValidationError("--image-list and --captions cannot both be standard input")
    }
    guard !text.contains(where: { $0.allSatisfy(\.isWhitespace) }) else {
      throw ValidationError("--text: a caption is empty")
    }
  }

  /// Returns the image files and texts that the options name.
  func find() throws -> EmbeddingItems {
    EmbeddingItems(
      images: try images.flatMap(EmbeddingItems.images) + (try imageList.map { try Prompts.lines($0) } ?? []),
      texts: text + (try captions.map { try Prompts.lines($0) } ?? []))
  }
}
