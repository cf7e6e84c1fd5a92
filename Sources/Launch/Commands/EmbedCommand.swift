import ArgumentParser
import Dist
import Foundation
import Model
import Tensor

/// `kinship embed` computes embeddings of a user's own images and captions.
struct EmbedCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "embed",
    abstract: "Writes the embeddings of images and captions to an HDF5 file or as JSON lines.",
    discussion: """
      It runs alone or under mpirun, with the same numbers on any number of ranks. The file has /image [images, d] in \
      the order in which images were given, or in the dataset's order, and /text [texts, d], both of 32-bit floats. \
      Their names (an image's path or key, a text itself) are the bytes from offsets[i] to offsets[i + 1] of \
      /image_names/bytes and /text_names/bytes. The attributes are the model's path, its logit scale (the factor, not \
      its logarithm), the dataset's name, and left_out, the number of images that --skip-bad has left out. A line of \
      JSON has kind (image or text), name and embedding.

      Example:

        kinship embed --checkpoint runs/mine --images photos --output mine.h5
      """)

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
    let code = Job.run { communicator in
      try ThreadPlan.agreed(over: communicator).apply()
      guard output == "-" || !FileManager.default.fileExists(atPath: output) else {
        throw UserError(output, "is there already; remove it, or name another file", status: .usage)
      }
      let dataset = try items.dataset.map { try Dataset.open($0) }
      let items = try EmbeddingItems.agreed(over: communicator) { try self.items.find() }
      let (embedder, _) = try source.load(over: communicator)
      let encoder = BlockEncoder(embedder: embedder, communicator: communicator, isRaw: raw)
      var parts: [EmbeddingFile.Rows] = []
      var faults: [ImageFault] = []
      if let dataset {
        let rows = try encoder.images(of: dataset, samples: Array(0..<dataset.count))
        parts.append(.init("image", (0..<dataset.count).map { dataset.key($0) }, rows))
      } else if !items.images.isEmpty {
        let found = try encoder.images(files: items.images, skipping: self.items.skipBad)
        faults = found.faults
        if faults.count == items.images.count, let first = faults.first {
          throw EvaluationError.badImage(path: items.images[first.image], reason: first.reason)
        }
        parts.append(EmbeddingFile.Rows("image", items.images, found.rows).without(faults.map(\.image)))
      }
      if !items.texts.isEmpty { parts.append(.init("text", items.texts, try encoder.texts(items.texts))) }
      guard communicator.rank == 0 else { return 0 }
      for fault in faults { log("left out: \(items.images[fault.image]): \(fault.reason)") }
      try EmbeddingFile(
        model: source.checkpoint, logitScale: exp(Double(embedder.model.logitScale.value[0])), dataset: dataset?.name,
        leftOut: faults.count, parts: parts
      ).write(to: output)
      if output != "-" { for part in parts { print("/\(part.kind): \(part.rows.rows) × \(part.rows.columns)") } }
      return 0
    }
    if code != 0 { throw ExitCode(code) }
  }

  private func log(_ line: String) { FileHandle.standardError.write(Data("kinship: \(line)\n".utf8)) }
}
