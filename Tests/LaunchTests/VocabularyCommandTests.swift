import Dist
import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

@Suite struct VocabularyCommandTests {
  @Test func learnsTheSameFileOnAnyNumberOfRanks() async throws {
    let scene = try EvaluationScene(count: 40)
    var files: [Data] = []
    for ranks in [nil, 2, 3] {
      let path = scene.folder.path("learned.txt")
      let run = try await MPIRun.kinship(
        ["vocabulary", "train", scene.dataset, scene.dataset, "--merges", "25", "--output", path], ranks: ranks)
      #expect(run.status == 0, "\(run)")
      let captions = scene.samples.reduce(0) { $0 + $1.captions.count }
      #expect(run.output.contains("\(2 * captions) captions"), "\(run)")
      #expect(run.output.contains("25 merges, 539 tokens: \(path)"), "\(run)")
      files.append(try Data(contentsOf: URL(filePath: path)))
    }
    #expect(files[0] == files[1])
    #expect(files[0] == files[2])
    let lines = String(decoding: files[0], as: UTF8.self).split(separator: "\n")
    #expect(lines.count == 26)
    #expect(lines[0] == "#version: 0.2, 25 merges")
  }

  @Test func inspectShowsSizesAndTokens() async throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("v.txt", "#version: 0.2\nc a\nca t</w>".utf8)
    let run = try await MPIRun.kinship(["vocabulary", "inspect", path, "Cat a"], ranks: nil)
    #expect(run.status == 0, "\(run)")
    let expected = """
      \(path): 516 tokens, merges of unknown origin in CLIP's format
        512 bytes, 2 merges, start 514, end 515
           514  <start_of_text>
           513  cat 
           320  a 
           515  <end_of_text>
      4 tokens

      """
    #expect(run.output == expected)
    try folder.write("v.txt", "#version: 0.2, 0 merges".utf8)
    let bytes = try await MPIRun.kinship(["vocabulary", "inspect", path], ranks: nil)
    #expect(bytes.output.hasPrefix("\(path): 514 tokens, bytes alone, without merges\n"), "\(bytes)")
  }

  /// A file of a single line used to pass for a vocabulary, with which a run then trained.
  @Test func aModelTakesBytesAloneOnlyWhenItSaysSo() throws {
    let bytes = try VocabularyTrainer.train(on: WordCounts(), merges: 0)
    var config = try CLIPConfig(preset: "ViT-B-32")
    config.text.vocabularySize = 0
    let refused = #expect(throws: UserError.self) { try config.fitted(to: bytes, path: "v.txt") }
    #expect(refused?.description.hasPrefix("v.txt: has 514 tokens, of single bytes") == true)
    config.text.vocabularySize = 514
    #expect(try config.fitted(to: bytes, path: "v.txt") == config)
    config.text.vocabularySize = 49_408
    let other = #expect(throws: UserError.self) { try config.fitted(to: bytes, path: "v.txt") }
    #expect(other?.description.contains("vocab_size is 49408 and the vocabulary v.txt has 514 tokens") == true)
  }

  @Test func saysWhatIsWrong() async throws {
    let folder = try TemporaryFolder()
    let text = try folder.write("v.txt", "#version: 0.2\nc a t\n".utf8)
    let page = try folder.write("page.txt", "<html><head><title>404 Not Found</title></head></html>".utf8)
    let output = folder.path("out.txt")
    for (arguments, status, words) in [
      (["inspect", text], 65, ["line 2", "“c a t”", "bpe_simple_vocab_16e6.txt.gz"]),
      (["inspect", page], 65, ["page.txt, line 1", "a header with #version", "“<html>", "kinship vocabulary train"]),
      (["inspect", folder.path("none")], 74, ["none", "there is no such file"]),
      (["train", folder.path("none"), "--merges", "5", "--output", output], nil, ["none"]),
      (["train", text, "--merges", "60000", "--output", output], 64, ["60000", "48894"]),
    ] as [([String], Int?, [String])] {
      let run = try await MPIRun.kinship(["vocabulary"] + arguments, ranks: nil)
      #expect(run.status == status || (status == nil && run.status != 0), "\(run)")
      for word in words { #expect(run.errors.contains(word), "\(run)") }
      #expect(!FileManager.default.fileExists(atPath: output))
    }
  }
}
