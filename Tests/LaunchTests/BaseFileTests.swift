import Foundation
import Model
import Settings
import TestSupport
import Testing

@testable import Launch

/// `base:` in run files.
@Suite struct BaseFileTests {
  private static let common = """
    output: elsewhere
    model: ViT-T-16
    data: {datasets: [a, b], workers: 3}
    vocabulary: words.txt.gz
    epochs: 2
    optimizer: {learning_rate: 1e-3, betas: [0.8, 0.9]}
    objective: intra
    teacher: a/run
    """

  @Test func whatAFileDoesNotSayIsAsInItsBase() throws {
    let folder = try TemporaryFolder()
    try folder.write("common.yaml", Self.common.utf8)
    try folder.write("rows/middle.yaml", "base: ../common.yaml\nseed: 5\nlog: {every: 3}\n".utf8)
    let file = try folder.write(
      "rows/row.yaml",
      """
      base: middle.yaml
      name: row
      data: {datasets: [c]}
      optimizer: {warmup: 7, betas: auto}
      objective: {fd: 10}
      log:
      model: {quick_gelu: true}
      """.utf8)
    let run = try RunConfig.load(file, overrides: ["optimizer.learning_rate=2e-3", "data.datasets.0.weight=2"])
    #expect(run.name == "row" && run.output == "elsewhere" && run.seed == 5 && run.epochs == 2)
    #expect(run.data.datasets.map(\.path) == ["c"] && run.data.datasets[0].weight == 2 && run.data.workers == 3)
    #expect(run.optimizer.learningRate == 2e-3 && run.optimizer.warmup == 7 && run.optimizer.betas == nil)
    #expect(run.objective.preset == .intra && run.objective.at(0).fd == 10)
    #expect(run.log.every == 3 && run.model.preset == "ViT-T-16" && run.model.quickGELU == true)
    // The resolved run needs no other file.
    #expect(try RunFileTests.decode(run.yaml) == run)
  }

  @Test func mistakesNameTheFileTheyAreIn() throws {
    let folder = try TemporaryFolder()
    try folder.write("common.yaml", "\(Self.common)\nspeed: 1".utf8)
    let file = try folder.write("run.yaml", "base: common.yaml\nname: a\nbatch: {global: 1}".utf8)
    let error = #expect(throws: RunFileError.self) { try RunConfig.load(file) }
    #expect(error?.description.hasPrefix("common.yaml:9:1: unknown key \"speed\" in the run file") == true)
    try folder.write("common.yaml", Self.common.utf8)
    let other = #expect(throws: RunFileError.self) { try RunConfig.load(file) }
    #expect(other?.description.hasPrefix("\(file):3:17: batch.global: expected at least 2") == true)
  }

  @Test func basesThatCannotBe() throws {
    let folder = try TemporaryFolder()
    for (name, text) in [
      ("none", "base: missing.yaml"), ("self", "base: self.yaml"), ("one", "base: two.yaml"), ("two", "base: one.yaml"),
      ("list", "base: [a]"), ("folder", "base: ."), ("sequence", "- a"), ("odd", "base: sequence.yaml"),
    ] { try folder.write("\(name).yaml", text.utf8) }
    func message(_ name: String) -> String {
      let error = #expect(throws: RunFileError.self) { try RunConfig.load(folder.path("\(name).yaml")) }
      return error?.description.replacing(folder.url.path, with: "") ?? ""
    }
    #expect(message("none").contains("none.yaml:1:7: base: cannot read the run file "))
    #expect(message("self").hasSuffix("self.yaml:1:7: base: self.yaml is based on this file again; take one base out"))
    #expect(message("one").hasSuffix("two.yaml:1:7: base: one.yaml is based on this file again; take one base out"))
    #expect(message("list").contains("list.yaml:1:7: base: expected text, found a list"))
    #expect(message("odd").contains("sequence.yaml:1:1: the run file: expected a section"))
    #expect(message("folder").contains("folder.yaml:1:7: base: cannot read the run file "))
  }
}
