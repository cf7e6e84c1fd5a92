import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Any error of an evaluation ends all ranks, with a code and a message that says what to change.
@Suite struct EvaluationErrorTests {
  let scene: EvaluationScene

  init() throws { scene = try EvaluationScene(count: 20) }

  func expect(
    _ arguments: [String], ranks: Int? = nil, status: Int, _ words: String...,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let run = try await MPIRun.kinship(["evaluate"] + arguments, ranks: ranks)
    #expect(run.status == status, "\(run)", sourceLocation: sourceLocation)
    for word in words { #expect(run.errors.contains(word), "\(run)", sourceLocation: sourceLocation) }
  }

  @Test func filesOfNames() async throws {
    let evaluation = ["zero-shot"] + scene.source + ["--dataset", scene.dataset]
    func file(_ text: String) throws -> String { try scene.folder.write("names.txt", text.utf8) }
    try await expect(
      evaluation + ["--templates", file("a {}\na photo\n")], status: 65, "names.txt, line 2", "{}", "“a photo”")
    try await expect(evaluation + ["--classes", file("one\n\ntwo\n")], status: 65, "line 2 is empty")
    // Only line feeds end lines: each of these is one name.
    try await expect(
      evaluation + ["--classes", file("one\u{2028}1\ntwo\u{B}2")], status: 65, "“image ", "has label", "2 classes")
    try await expect(evaluation + ["--classes", file("")], status: 65, "line 1 is empty")
    try await expect(
      evaluation + ["--classes", file("one\ntwo")], status: 65, "“image ", "has label", "2 classes")
    try await expect(
      evaluation + ["--subset", file("dog\nzebra\n")], ranks: 2, status: 65, "no class “zebra” among the 6")
    try await expect(evaluation + ["--templates", scene.folder.path("none")], status: 74, "cannot open", "none")
    try Data([0x61, 0xFF, 0x0A]).write(to: URL(filePath: scene.folder.path("names.txt")))
    try await expect(
      evaluation + ["--classes", scene.folder.path("names.txt")], status: 65, "byte 1 (line 1) is 0xff")
  }

  @Test func datasetsWithoutWhatIsAsked() async throws {
    func dataset(_ name: String, _ samples: [DatasetSample], labeled: Bool = false) throws -> String {
      var writer = try DatasetWriter(name: name, folder: scene.folder.path(name), labeled: labeled)
      for sample in samples { try writer.append(sample) }
      _ = try writer.finish()
      return scene.folder.path(name)
    }
    let image = scene.samples[0].image
    let silent = try dataset("silent", [DatasetSample(image: image, captions: [], key: "a")])
    try await expect(
      ["retrieval"] + scene.source + ["--dataset", silent], status: 65, "the dataset silent has no captions")
    try await expect(
      ["zero-shot"] + scene.source + ["--dataset", silent], status: 65, "does not name its classes", "--classes")
    let classes = try scene.folder.write("classes.txt", "one\ntwo".utf8)
    try await expect(
      ["zero-shot", "--classes", classes] + scene.source + ["--dataset", silent], status: 65,
      "no images with a label among the classes")
    let broken = try dataset(
      "broken", scene.samples + [DatasetSample(image: Array(image.prefix(60)), captions: ["b"], key: "cut")],
      labeled: true)
    try await expect(
      ["retrieval"] + scene.source + ["--dataset", broken], ranks: 2, status: 65, "\"cut\" of the dataset broken",
      "rank")
    let lost = try await MPIRun.kinship(
      ["evaluate", "retrieval"] + scene.source + ["--dataset", scene.folder.path("none")], ranks: nil)
    #expect(lost.status == 65 || lost.status == 74, "\(lost)")
    #expect(lost.errors.contains("none"), "\(lost)")
  }

  @Test func modelsThatDoNotFit() async throws {
    let evaluation = ["retrieval", "--dataset", scene.dataset]
    func model(embedding: Int, vocabulary: Int) throws -> [String] {
      let json = """
        {"embed_dim": \(embedding), "text_cfg": {"context_length": 8, "vocab_size": \(vocabulary), "width": 32,
         "heads": 2, "layers": 2},
         "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}}
        """
      var source = scene.source
      source[3] = try scene.folder.write("other.json", json.utf8)
      return source
    }
    try await expect(
      evaluation + model(embedding: 20, vocabulary: scene.tokenizer.vocabulary.size), status: 65,
      "misshapen: visual.proj is [32, 16], the model's is [32, 20]",
      "unexpected: visual.transformer.resblocks.1.attn.in_proj_weight")
    try await expect(evaluation + model(embedding: 16, vocabulary: 99), status: 65, "vocab_size is 99", "text_cfg")
    try await expect(
      evaluation + Array(scene.source.prefix(2)), status: 64, "--vocabulary is needed", "--model unless")

    // The model has diverged.
    let bias = try #require(scene.model.parameters.entry(named: "visual.ln_post.bias"))
    scene.model.parameters.value(of: bias)[0] = .nan
    try SafetensorsFile.write(
      scene.model.parameters.entries.map { SafetensorsEntry($0.name, scene.model.parameters.value(of: $0)) },
      to: scene.folder.path("model.safetensors"))
    try await expect(
      evaluation + scene.source, ranks: 2, status: 76, "the embedding of the image “image ", "not finite")
  }

  @Test func figuresThatCannotBeWritten() async throws {
    try await expect(
      ["retrieval"] + scene.source + ["--dataset", scene.dataset, "--json", scene.folder.path("no/folder/f.json")],
      status: 74, "cannot write", "no/folder/f.json: No such file or directory")
  }
}
