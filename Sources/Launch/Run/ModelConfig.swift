import Foundation

/// Which model is trained: exactly one of `preset`, `file`, or a model written out in open_clip's keys.
///
/// The short form `model: NAME` is a preset, `model: FILE.json` a file.
struct ModelConfig: Section {
  /// Where the model's sizes come from.
  enum Source: Sendable, Equatable {
    /// A name such as `ViT-T-16`.
    case preset(String)
    /// A JSON file in open_clip's form.
    case file(String)
    /// JSON text in open_clip's form, written out in the run file.
    case inline(String)
  }

  /// A preset's name.
  var preset: String?
  /// A JSON file in open_clip's form; a relative path is looked up from the working folder.
  var file: String?
  /// Width of the embeddings, for a model that is written out.
  var embedDim: Int?
  /// The vision tower in open_clip's keys, for a model that is written out.
  var visionCfg: FreeForm?
  /// The text tower in open_clip's keys, for a model that is written out.
  var textCfg: FreeForm?
  /// x·σ(1.702x) in place of GELU; `auto`: as the preset or the file has it.
  var quickGELU: Bool?

  mutating func fields(_ map: FieldMap) {
    map.optional("preset", &preset)
    map.optional("file", &file)
    map.optional("embed_dim", &embedDim)
    map.optional("vision_cfg", &visionCfg)
    map.optional("text_cfg", &textCfg)
    map.optional("quick_gelu", &quickGELU, none: "auto")
  }

  static var expectation: String { "the name of a preset, a .json file, or a section" }

  static func shorthand(_ text: String) -> ModelConfig? {
    var model = ModelConfig()
    if text.hasSuffix(".json") { model.file = text } else { model.preset = text }
    return model
  }

  /// Where the model's sizes come from; nil unless exactly one source is given in full.
  var source: Source? {
    switch (preset, file, embedDim, visionCfg, textCfg) {
    case (let preset?, nil, nil, nil, nil): return .preset(preset)
    case (nil, let file?, nil, nil, nil): return .file(file)
    case (nil, nil, let embedDim?, let vision?, let text?):
      return .inline(#"{"embed_dim": \#(embedDim), "vision_cfg": \#(vision.json), "text_cfg": \#(text.json)}"#)
    default: return nil
    }
  }
}

/// A part of the run file that is handed on as JSON, to be checked by what it configures.
struct FreeForm: FieldValue {
  var tree: RunTree

  static var expectation: String { "a section (keys and values)" }

  static func read(_ node: RunNode, _ problems: Problems) -> FreeForm? {
    problems.note(node)
    guard case .section = node.value else {
      problems.wrongType(node, expected: expectation)
      return nil
    }
    return FreeForm(tree: node.tree)
  }

  var json: String { Self.json(tree) }

  private static func json(_ tree: RunTree) -> String {
    switch tree {
    case .list(let values): return "[\(values.map(json).joined(separator: ", "))]"
    case .section(let entries):
      return "{\(entries.map { "\(quoted($0.key)): \(json($0.value))" }.joined(separator: ", "))}"
    case .scalar(let text, false) where ["true", "false", "null"].contains(text): return text
    case .scalar(let text, false) where ["", "~"].contains(text): return "null"
    case .scalar(let text, false):
      if let integer: Int = YAMLNumber.integer(text) { return "\(integer)" }
      return YAMLNumber.double(text).map { "\($0)" } ?? quoted(text)
    case .scalar(let text, true): return quoted(text)
    }
  }

  private static func quoted(_ text: String) -> String {
    // A string is always encodable.
    (try? String(decoding: JSONEncoder().encode(text), as: UTF8.self)) ?? "\"\""
  }
}
