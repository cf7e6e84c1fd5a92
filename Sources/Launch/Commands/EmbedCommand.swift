import ArgumentParser
import Dist
import Foundation
import Model
import Tensor

/// `kinship embed`: embeddings of a user's own pictures and captions.
struct EmbedCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "embed",
    abstract: "Writes the embeddings of pictures and captions to an HDF5 file or as JSON lines.",
    discussion: """
      Alone or under mpirun, with the same numbers on any number of ranks. The file has /image [pictures, d] in the \
      order given, a corpus's in its own, and /text [texts, d], both 32-bit floats; their names (a picture's path or \
      key, a text itself) are the bytes from offsets[i] to offsets[i + 1] of /image_names/bytes and /text_names/bytes; \
      as attributes the model's path, its logit scale (already the factor, not its logarithm), the corpus's name, and \
      left_out, the number of pictures that --skip-bad has left out. A line of JSON has kind (image or text), name and \
      embedding.
      """)

  @OptionGroup var source: ModelSource

  @OptionGroup(title: "What is embedded") var items: EmbedItemOptions

  @Flag(help: "Features as the towers give them. Default: of length one.") var raw = false

  @Option(
    name: .shortAndLong,
    help: ArgumentHelp(
      "The file to write; it must not exist. A name that ends in .jsonl has JSON lines; - is standard output.",
      valueName: "file"))
  var output: String

  func run() throws {
    let code = Job.run { communicator in
      try ThreadPlan.agreed(over: communicator).apply()
      guard output == "-" || !FileManager.default.fileExists(atPath: output) else {
        throw ModelFileError(path: output, exitCode: 64, reason: "is there already; remove it, or name another file")
      }
      let corpus = try items.corpus.map { try Corpus.open($0) }
      let items = try EmbeddingItems.agreed(over: communicator) { try self.items.find() }
      let (embedder, _) = try source.load(over: communicator)
      let encoder = BlockEncoder(embedder: embedder, communicator: communicator, isRaw: raw)
      var parts: [EmbeddingFile.Rows] = []
      var faults: [PictureFault] = []
      if let corpus {
        let rows = try encoder.pictures(of: corpus, samples: Array(0..<corpus.count))
        parts.append(.init("image", (0..<corpus.count).map { corpus.key($0) }, rows))
      } else if !items.pictures.isEmpty {
        let found = try encoder.pictures(files: items.pictures, skipping: self.items.skipBad)
        faults = found.faults
        if faults.count == items.pictures.count, let first = faults.first {
          throw EvaluationError.badPicture(path: items.pictures[first.picture], reason: first.reason)
        }
        parts.append(EmbeddingFile.Rows("image", items.pictures, found.rows).without(faults.map(\.picture)))
      }
      if !items.texts.isEmpty { parts.append(.init("text", items.texts, try encoder.texts(items.texts))) }
      guard communicator.rank == 0 else { return 0 }
      for fault in faults { say("left out: \(items.pictures[fault.picture]): \(fault.reason)") }
      try EmbeddingFile(
        model: source.checkpoint, logitScale: exp(Double(embedder.model.logitScale.value[0])), corpus: corpus?.name,
        leftOut: faults.count, parts: parts
      ).write(to: output)
      if output != "-" { for part in parts { print("/\(part.kind): \(part.rows.rows) × \(part.rows.columns)") } }
      return 0
    }
    if code != 0 { throw ExitCode(code) }
  }

  private func say(_ line: String) { FileHandle.standardError.write(Data("kinship: \(line)\n".utf8)) }
}
