import Dist
import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

/// The folder that `kinship weights export` writes, with all that other programs need beside the weights.
@Suite struct ExportTests {
  private static let words = [HuggingFaceFiles.tokenizer, HuggingFaceFiles.tokenizerConfig]
  private static let files =
    [ModelFiles.weights, ModelFiles.config, HuggingFaceFiles.weights, HuggingFaceFiles.config]
    + [HuggingFaceFiles.preprocessor, ModelCard.file] + words

  private func export(_ arguments: [String], status: Int = 0) async throws -> MPIRun {
    let run = try await MPIRun.kinship(["weights", "export"] + arguments, ranks: nil)
    #expect(run.status == status, "\(run)")
    return run
  }

  private func object(_ path: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(contentsOf: URL(filePath: path))) as? [String: Any])
  }

  @Test func isComplete() async throws {
    let scene = try await TrainScene()
    let evaluations = "evaluate.evaluations=[{kind: zero-shot, dataset: \"\(scene.dataset)\"}]"
    try await scene.train("tiny", [evaluations, "evaluate.every=1", "steps=2"], ranks: nil)
    let (run, output) = (scene.runFolder("tiny").path, scene.folder.path("out"))
    _ = try await export([run, "-o", output])
    #expect(try FileManager.default.contentsOfDirectory(atPath: output).sorted() == Self.files.sorted())

    let vocabulary = try Vocabulary(contentsOf: scene.vocabulary)
    let config = try object("\(output)/\(HuggingFaceFiles.config)")
    let text = try #require(config["text_config"] as? [String: Any])
    #expect(text["vocab_size"] as? Int == vocabulary.size && text["eos_token_id"] as? Int == Int(vocabulary.end))
    let tokenizer = try object("\(output)/\(HuggingFaceFiles.tokenizer)")
    let model = try #require(tokenizer["model"] as? [String: Any])
    #expect((model["vocab"] as? [String: Any])?.count == vocabulary.size)
    #expect((model["merges"] as? [Any])?.count == vocabulary.mergeCount)
    // open_clip takes the tokenizer of the folder, because the vocabulary is not the one that it brings along.
    let ours = try object("\(output)/\(ModelFiles.config)")
    let sizes = try #require((ours["model_cfg"] as? [String: Any])?["text_cfg"] as? [String: Any])
    #expect(sizes[ModelFiles.tokenizerKey] as? String == "OWNER/NAME")
    #expect(
      try ModelFiles.sizes("\(output)/\(ModelFiles.config)")
        == ModelFiles.sizes("\(output)/\(HuggingFaceFiles.config)"))

    let card = try String(contentsOfFile: "\(output)/\(ModelCard.file)", encoding: .utf8)
    let saved = try SavedRun(Checkpoint.open(scene.checkpoint("tiny", 2).path))
    let digest = try #require(saved.datasets?.first?.fingerprint)
    for words in [
      "---\nlicense: # to fill in\nlibrary_name: open_clip\npipeline_tag: zero-shot-image-classification\n",
      "\n# tiny\n", "local-dir:FOLDER", "CLIPProcessor.from_pretrained", "| data | corpus 23 images; ",
      "| SHA-256 of the data | corpus \(digest) |", "| objective | clip 1 |", "| steps | 2 of 7 pairs |",
      "| precision | fp32 |", "| vocabulary | vocabulary.txt.gz, SHA-256 \(saved.vocabularySHA256) |",
      "| program | Kinship \(Release.version) |", "### zero-shot corpus\n\n| | last | best |", "(step 2) |",
      "## Licences\n\n| | |\n|---|---|\n| weights | to fill in |", "\nLay transparent images on white first, as in",
    ] { #expect(card.contains(words), "\(words) in \(card)") }
    #expect(!card.contains(scene.folder.path("")) && !card.contains("| teacher |"), "\(card)")

    // A checkpoint knows its run's log; one form has no files of the other.
    let theirs = scene.folder.path("theirs")
    _ = try await export([scene.checkpoint("tiny", 2).path, "--form", "hugging_face", "-o", theirs])
    let other = try String(contentsOfFile: "\(theirs)/\(ModelCard.file)", encoding: .utf8)
    #expect(other.contains("### zero-shot corpus") && other.contains("library_name: transformers"), "\(other)")
    #expect(!other.contains("open_clip.") && !FileManager.default.fileExists(atPath: "\(theirs)/\(ModelFiles.config)"))

    // What is written is read again, and other words are refused.
    let back = scene.folder.path("back")
    let without = try await export([output, "-o", back])
    #expect(without.output.contains("without tokenizer.json: name the model's vocabulary with --vocabulary"))
    for (arguments, status, words) in [
      ([output, "--vocabulary", scene.words], 65, "give the model's own vocabulary"),
      ([run, "--vocabulary", scene.words], 65, "is not the vocabulary that the model was trained with"),
      ([run, "--vocabulary", scene.folder.path("none")], 74, "there is no such file"),
    ] {
      let refused = try await export(arguments + ["-o", scene.folder.path("refused")], status: status)
      #expect(refused.errors.contains(words), "\(refused)")
      #expect(!FileManager.default.fileExists(atPath: scene.folder.path("refused")))
    }
    _ = try await export([output, "--vocabulary", scene.vocabulary, "-o", scene.folder.path("again")])
    for name in Self.words {
      let file = URL(filePath: scene.folder.path("again/\(name)"))
      #expect(try Data(contentsOf: file) == Data(contentsOf: URL(filePath: "\(output)/\(name)")), "\(name)")
    }
  }

  /// A student's card names its teacher, and leaves the licence of the teacher's weights to be filled in.
  @Test func aStudentsCardNamesItsTeacher() async throws {
    let scene = try await TeacherScene()
    try await scene.train("student", ["steps=1"])
    let output = scene.scene.folder.path("out")
    _ = try await export([scene.scene.runFolder("student").path, "-o", output])
    let card = try String(contentsOfFile: "\(output)/\(ModelCard.file)", encoding: .utf8)
    let saved = try SavedRun(scene.checkpoint("student", 1))
    let teacher = try #require(saved.teacher)
    #expect(card.contains("| teacher | teacher, SHA-256 \(teacher.sha256) |"), "\(card)")
    #expect(card.contains("| weights | to fill in |\n| data | to fill in |\n| teacher | to fill in |"), "\(card)")
  }

  /// A card names no program that cannot build the model, and says what neither program does to images.
  @Test func aCardSaysWhatOthersCannotDo() throws {
    func card(_ blocks: String, _ change: (inout ImageOptions) -> Void = { _ in }) throws -> String {
      let sizes = """
        {"embed_dim": 6, "text_cfg": {"context_length": 5, "vocab_size": 9, "width": 4, "heads": 2, "layers": 1},
         "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 8, "layers": 1, "head_width": 4\(blocks)}}
        """
      var preprocessing = ImageOptions()
      change(&preprocessing)
      return ModelCard(
        config: try CLIPConfig(json: Data(sizes.utf8)), saved: nil, step: nil, isAveraged: false, history: nil
      ).text(.openCLIP, preprocessing, hasOwnWords: true)
    }
    let blocks =
      ", \"blocks\": {\"head_width\": 4, \"heads\": [1], \"hidden\": [9], \"full_width\": 8, \"full_heads\": 2, "
      + "\"full_hidden\": 32}"
    let pruned = try card(blocks)
    #expect(pruned.contains("library_name: kinship\n") && pruned.contains("kinship embed --checkpoint"), "\(pruned)")
    #expect(!pruned.contains("import open_clip"), "\(pruned)")
    let whole = try card("")
    #expect(whole.contains("import open_clip") && whole.contains("on white") && !whole.contains("upright"), "\(whole)")
    let other = try card("") { ($0.alpha, $0.exif) = (.drop, .apply) }
    #expect(other.contains("Turn images upright first") && !other.contains("on white"), "\(other)")
  }

  @Test func namesAreNoMarkup() {
    let expected = ##"a\|b \<img src=x\> \# \[x\](y) \\u{202E}\`c\`"##
    #expect(ModelCard.plain("a|b <img src=x>\n# [x](y) \u{202E}`c`") == expected)
  }
}
