import ArgumentParser
import Dist
import Foundation
import Model
import Tensor

/// `kinship embed`: embeddings of a user's own pictures and captions.
struct EmbedCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "embed",
    abstract: "Writes the embeddings of pictures and captions to an HDF5 file.",
    discussion: """
      Alone or under mpirun, with the same numbers on any number of ranks. The file has /image [pictures, d] in the \
      corpus's order, whose keys kinship corpus inspect shows, and /text [captions, d] in the order of the lines, both \
      32-bit floats; as attributes the model's path, its logit scale (already the factor, not its logarithm) and the \
      corpus's name.
      """)

  @OptionGroup var source: ModelSource

  @Option(help: "The corpus whose pictures are embedded: its index file or folder.") var corpus: String?

  @Option(help: ArgumentHelp("A text file of captions, one a line.", valueName: "file")) var captions: String?

  @Flag(help: "Features as the towers give them. Default: of length one.") var raw = false

  @Option(name: .shortAndLong, help: ArgumentHelp("The file to write; it must not exist.", valueName: "file"))
  var output: String

  func validate() throws {
    guard corpus != nil || captions != nil else {
      throw ValidationError("nothing to embed: give --corpus, --captions or both")
    }
  }

  func run() throws {
    let code = Job.run { communicator in
      try ThreadPlan.agreed(over: communicator).apply()
      let corpus = try corpus.map { try Corpus.open($0) }
      let lines = try captions.map { try Prompts.lines($0) }
      guard !FileManager.default.fileExists(atPath: output) else {
        throw ModelFileError(path: output, exitCode: 64, reason: "is there already; remove it, or name another file")
      }
      let (embedder, _) = try source.load(over: communicator)
      let encoder = BlockEncoder(embedder: embedder, communicator: communicator, isRaw: raw)
      let image = try corpus.map { try encoder.pictures(of: $0, samples: Array(0..<$0.count)) }
      let text = try lines.map { try encoder.texts($0) }
      guard communicator.rank == 0 else { return 0 }
      try write([("image", image), ("text", text)], of: embedder, corpus)
      return 0
    }
    if code != 0 { throw ExitCode(code) }
  }
  /// Under another name first, so that a file that is there is whole.
  private func write(_ datasets: [(String, Tensor<Float>?)], of embedder: CLIPEmbedder, _ corpus: Corpus?) throws {
    let partial = output + ".partial"
    try Publish.removeAll(partial)
    let file = try HDF5File.create(partial)
    try file.attributes.set("model", source.checkpoint)
    try file.attributes.set("logit_scale", exp(Double(embedder.model.logitScale.value[0])))
    if let corpus { try file.attributes.set("corpus", corpus.name) }
    for (name, rows) in datasets {
      guard let rows else { continue }
      try file.createDataset(name, .float32, shape: rows.shape.array).write(rows)
      print("/\(name): \(rows.rows) × \(rows.columns)")
    }
    try file.close()
    try Publish.sync(file: partial)
    try Publish.rename(partial, to: output)
  }
}
