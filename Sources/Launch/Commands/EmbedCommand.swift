import ArgumentParser
import Dist
import Foundation
import Model
import Settings
import Tensor

struct EmbedCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "embed", abstract: "Writes the embeddings of images and captions to an HDF5 file or as JSON lines.",
    discussion: help(
      """
      It runs alone or under mpirun, with the same numbers on any number of ranks. The file has /image [images, d] in \
      the order in which images were given, or in the dataset's order, and /text [texts, d], both of 32-bit floats. \
      Their names (an image's path or key, a text itself) are the bytes from offsets[i] to offsets[i + 1] of \
      /image_names/bytes and /text_names/bytes. The attributes are the model's path, its logit scale (the factor, not \
      its logarithm), the dataset's name, alpha (white or drop), and left_out, the number of images that --skip-bad \
      has left out. A line of JSON has kind (image or text), name and embedding.
      """, example: "kinship embed --checkpoint runs/mine --images photos --output mine.h5"))

  @OptionGroup var source: ModelSource
  @OptionGroup(title: "What is embedded") var items: EmbedItemOptions
  @Flag(help: "Writes features as the towers compute them. Default: normalized to length one.") var raw = false
  @Option(
    name: .shortAndLong,
    help: ArgumentHelp(
      "The file to write; it must not exist. A name that ends in .jsonl gets JSON lines; - is standard output.",
      valueName: "file"))
  var output: String

  func run() throws {
    try Job.perform { communicator in
      try ThreadPlan.agreed(over: communicator).apply()
      guard output == "-" || !FileManager.default.fileExists(atPath: output) else {
        throw UserError(output, "is there already; remove it, or name another file", status: .usage)
      }
      let dataset = try items.dataset.map { try Dataset.open($0, over: communicator) }
      let items = try communicator.broadcast { try self.items.find() }
      let (embedder, _) = try source.load(over: communicator, texts: !items.texts.isEmpty)
      if communicator.rank == 0, dataset != nil || !items.images.isEmpty { embedder.reportPreparation() }
      let encoder = BlockEncoder(embedder: embedder, communicator: communicator, isRaw: raw)
      var parts: [EmbeddingFile.Rows] = []
      var faults: [ImageFault] = []
      if let dataset {
        let rows = try encoder.images(of: dataset, samples: Array(0..<dataset.count))
        parts.append(.init(kind: "image", names: (0..<dataset.count).map { dataset.key($0) }, rows: rows))
      } else if !items.images.isEmpty {
        let found = try encoder.images(items, skipping: self.items.skipBad)
        faults = found.faults
        if faults.count == items.images.count, let first = faults.first { throw items.error(first) }
        parts.append(
          .init(kind: "image", names: items.images, rows: found.rows, leftOut: faults.map(\.image)))
      }
      if !items.texts.isEmpty {
        parts.append(.init(kind: "text", names: items.texts, rows: try encoder.texts(items.texts)))
      }
      if communicator.rank == 0 {
        for fault in faults { Job.report("kinship: left out: \(items.images[fault.image]): \(fault.reason)") }
      }
      try EmbeddingFile(
        model: source.checkpoint, logitScale: exp(Double(embedder.model.logitScale.value[0])), dataset: dataset?.name,
        alpha: embedder.image.alpha, leftOut: faults.count, parts: parts
      ).write(to: output, over: communicator)
      guard communicator.rank == 0, output != "-" else { return }
      for part in parts { try StandardOutput.print("/\(part.kind): \(part.count) × \(part.rows.columns)") }
    }
  }
}

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
    try require(
      dataset != nil || own || captions != nil || !text.isEmpty,
      "nothing to embed: give --dataset or --images, --captions or --text")
    try require(dataset == nil || !own, "--dataset and --images both name the images; leave one out")
    try require(!skipBad || own, "--skip-bad belongs to --images and --image-list; a dataset has no bad images")
    try require(imageList != "-" || captions != "-", "--image-list and --captions cannot both be standard input")
    try require(!text.contains(where: { $0.allSatisfy(\.isWhitespace) }), "--text: a caption is empty")
  }

  func find() throws -> EmbeddingItems {
    let listed = try imageList.map { try Prompts.lines($0).map(\.withHome) } ?? []
    return EmbeddingItems(
      images: try images.flatMap(EmbeddingItems.images) + listed,
      texts: text + (try captions.map { try Prompts.lines($0) } ?? []), list: imageList, listed: listed.count)
  }
}
