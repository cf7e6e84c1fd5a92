import Dist
import Foundation
import Model
import Settings

/// The model card of an exported model: how to load it, what trained it on what, and its figures, as far as the run and
/// its log tell. What only people know, above all the licences, is left to fill in.
struct ModelCard {
  static let file = "README.md"
  private static let blank = "to fill in"
  let config: CLIPConfig
  let saved: SavedRun?
  /// The number of steps of its training; nil if it is not known.
  let step: Int?
  let isAveraged: Bool
  let history: RunHistory?

  func text(_ form: ExportForm, _ preprocessing: ImageOptions, hasOwnWords: Bool) -> String {
    let teacherLicence: String? = saved?.teacher == nil ? nil : Self.blank
    let sections = [
      head(form), "# \(Self.plain(saved?.name ?? Self.blank))", Self.plain(config.summary) + ".",
      use(form, preprocessing, hasOwnWords: hasOwnWords), "## Training", training, figures, "## Licences",
      Self.table([("weights", Self.blank), ("data", Self.blank), ("teacher", teacherLicence)]),
    ]
    return sections.filter { !$0.isEmpty }.joined(separator: "\n\n") + "\n"
  }

  /// The metadata that hubs read.
  private func head(_ form: ExportForm) -> String {
    let library =
      switch form {
      case .onnx: "onnx"
      case _ where config.isPruned: "kinship"
      case .huggingFace: "transformers"
      case .openCLIP, .both: "open_clip"
      }
    return """
      ---
      license: # to fill in
      library_name: \(library)
      pipeline_tag: zero-shot-image-classification
      tags:
      - clip
      - kinship
      ---
      """
  }

  private func use(_ form: ExportForm, _ preprocessing: ImageOptions, hasOwnWords: Bool) -> String {
    if form == .onnx { return ([useONNX] + preparation(preprocessing)).joined(separator: "\n\n") }
    guard !config.isPruned else {
      return "## Use\n\nThe model is pruned, and its blocks have sizes of their own, so open_clip and transformers "
        + "cannot build it. Kinship reads the folder, as in `kinship embed --checkpoint FOLDER`."
    }
    var texts = ["## Use"]
    if form != .huggingFace {
      texts.append(
        """
        ```python
        import open_clip

        model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")
        tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")
        ```
        """)
    }
    if form != .openCLIP {
      texts.append(
        """
        ```python
        from transformers import CLIPModel, CLIPProcessor

        model, processor = CLIPModel.from_pretrained("FOLDER"), CLIPProcessor.from_pretrained("FOLDER")
        ```
        """)
    }
    if form != .huggingFace, hasOwnWords {
      texts.append(
        "Captions are read with the vocabulary of `\(HuggingFaceFiles.tokenizer)`. In a repository, "
          + "`\(ModelFiles.tokenizerKey)` in `\(ModelFiles.config)` must be the repository's name.")
    }
    return (texts + preparation(preprocessing)).joined(separator: "\n\n")
  }

  private var useONNX: String {
    let size = config.vision.imageSize
    return """
      ## Use

      ```python
      import onnxruntime

      visual = onnxruntime.InferenceSession("FOLDER/\(ONNXExport.image)")
      textual = onnxruntime.InferenceSession("FOLDER/\(ONNXExport.text)")
      ```

      `\(ONNXExport.image)` turns `pixel_values`, images [batch, 3, \(size), \(size)] that were prepared as \
      `\(HuggingFaceFiles.preprocessor)` says, into `image_embeds` [batch, \(config.embedding)]. \
      `\(ONNXExport.text)` turns `input_ids`, the ids of `\(HuggingFaceFiles.tokenizer)` [batch, sequence] for up to \
      \(config.text.contextLength) tokens, into `text_embeds` [batch, \(config.embedding)]. Embeddings have the length \
      1. The metadata have `logit_scale`, by which a softmax multiplies their cosines.
      """
  }

  /// What programs other than Kinship do not do, because they do not know the keys `alpha` and `exif`.
  private func preparation(_ preprocessing: ImageOptions) -> [String] {
    var texts: [String] = []
    if preprocessing.alpha == .white {
      texts.append(
        "Lay transparent images on white first, as in the model's training; transparency is dropped otherwise.")
    }
    if preprocessing.exif == .apply {
      texts.append("Turn images upright first (`PIL.ImageOps.exif_transpose`), as in the model's training.")
    }
    return texts
  }

  private var training: String {
    guard let saved else { return "How the model was trained: \(Self.blank)." }
    let run = try? RunConfig.decode(saved.run, file: RunFolder.runFile)
    func fact(_ name: String) -> String? { history?.facts.first { $0.name == name }?.text }
    // The datasets of evaluations come behind those of training.
    let datasets = saved.datasets?.prefix(run?.data.datasets.count ?? .max)
    let paths = datasets?.map(\.path) ?? run?.data.datasets.map(\.path) ?? []
    let names = paths.map(Self.name).joined(separator: ", ")
    let digests = datasets?.map { "\(Self.name($0.path)) \($0.fingerprint)" }.joined(separator: ", ")
    let teachers = saved.teacher?.all.map { "\(Self.name($0.path)), SHA-256 \($0.sha256)" }.joined(separator: "; ")
    let start = saved.start.map { "\(Self.name($0.path)) (init.\($0.key)), SHA-256 \($0.sha256)" }
    let terms = run?.objective.weights.map { key, weight in
      let values = weight.points.map { Figures.significant($0.value, 4) }
      return "\(key) \(values.joined(separator: " to "))"
    }
    let pairs = run.map { " of \($0.batch.global) pairs" } ?? ""
    let ranks = history?.starts.last?.ranks.map { " on \(Figures.count($0, "rank"))" } ?? ""
    let seconds = history?.seconds ?? 0
    let time: String? = seconds > 0 ? Figures.duration(seconds) + ranks : nil
    let average: String? = isAveraged ? "the moving average over the steps" : nil
    let steps = step.map { "\($0)\(pairs)" }
    let precision = fact("precision") ?? run?.precision.rawValue
    let version = history?.starts.last?.version ?? Release.version
    return Self.table([
      ("data", fact("data") ?? names), ("SHA-256 of the data", digests), ("teacher", teachers), ("began with", start),
      ("objective", terms?.joined(separator: ", ")), ("steps", steps), ("weights", average), ("time", time),
      ("precision", precision),
      ("vocabulary", "\(Self.name(saved.vocabulary)), SHA-256 \(saved.vocabularySHA256)"),
      ("program", "Kinship \(version)"),
    ])
  }

  /// The last and the best figures of each evaluation in the run's log.
  private var figures: String {
    let tables = (history?.evaluations ?? []).map { name, rounds in
      let rows = (history?.curves(of: name) ?? []).compactMap { figure, curve -> String? in
        let values = curve.finite
        let most = EvaluationNames.best(figure, of: rounds)
        guard let last = values.last, let best = values.first(where: { $0.value == most }) else { return nil }
        let cells = [last, best].map { "\(EvaluationNames.form(of: figure).text($0.value)) (step \($0.step))" }
        return "| \(Self.plain(EvaluationNames.long(figure))) | \(cells.joined(separator: " | ")) |"
      }
      return (["### \(Self.plain(name))\n", "| | last | best |", "|---|---|---|"] + rows).joined(separator: "\n")
    }
    return tables.isEmpty ? "" : (["## Figures"] + tables).joined(separator: "\n\n")
  }

  /// Returns a table without a head; rows without a text are left out.
  private static func table(_ rows: [(name: String, text: String?)]) -> String {
    let lines = rows.compactMap { row in row.text.map { "| \(row.name) | \(plain($0)) |" } }
    return (["| | |", "|---|---|"] + lines).joined(separator: "\n")
  }

  /// Returns the name of a file or folder without the path, which is a machine's own; of a file whose name is that of
  /// any model, the name of its folder.
  private static func name(_ path: String) -> String {
    let url = URL(filePath: path)
    let isUsual = WeightsFile.usual.contains(url.lastPathComponent)
    return (isUsual ? url.deletingLastPathComponent() : url).lastPathComponent
  }

  /// Returns a text as one line of Markdown in which nothing is markup, HTML, or the end of a table's cell.
  static func plain(_ text: String) -> String {
    text.printable.unicodeScalars.reduce(into: "") { line, scalar in
      if scalar.properties.isWhitespace {
        line += " "
      } else {
        if "\\`*_[]<>|&~$#!".unicodeScalars.contains(scalar) { line += "\\" }
        line.unicodeScalars.append(scalar)
      }
    }
  }
}
