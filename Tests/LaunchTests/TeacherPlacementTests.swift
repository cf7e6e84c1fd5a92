import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Where a teacher's weights are, in real jobs: it changes memory and nothing else.
@Suite(.serialized, .timeLimit(.minutes(5))) struct TeacherPlacementTests {
  let scene: TeacherScene

  init() async throws { scene = try await TeacherScene() }

  /// Losses of ten steps depend on every bit of the teacher's embeddings.
  @Test(arguments: [1, 2, 3]) func lossesAreTheSameToTheBit(ranks: Int) async throws {
    let file = ["teacher.model=\"\(scene.weights)\"", "teacher.vocabulary=\"\(scene.words)\""]
    let wanted = try await scene.train("wanted", ["teacher.placement=replicated"], ranks: ranks)
    for placement in TeacherPlacement.allCases where placement != .replicated {
      let name = "\(placement.rawValue)"
      let values = ["teacher.placement=\(name)", "teacher.micro=2"]
      let pieces = try await scene.train(
        "wanted-\(name)", ["teacher.placement=replicated", "teacher.micro=2"], ranks: ranks)
      #expect(try await scene.train(name, ["teacher.placement=\(name)"], ranks: ranks) == wanted)
      #expect(try await scene.train("\(name)-pieces", values, ranks: ranks) == pieces)
      #expect(try await scene.train("\(name)-file", values + file, ranks: ranks) == pieces)
    }
  }

  /// A teacher large enough to be seen beside what else a process holds.
  @Test(arguments: [1, 2, 3]) func aNodeHoldsOneTeacher(ranks: Int) async throws {
    let words = try Vocabulary(contentsOf: scene.scene.vocabulary)
    var config = try CLIPConfig(preset: "ViT-64-B-8")
    config.text.vocabularySize = words.size
    let model = CLIP<Float>(config, frozen: true)
    model.initialize(seed: 1)
    try ModelFiles.write(model, preprocessing: ImageOptions(), to: scene.scene.folder.url)
    let whole = Double(model.parameters.count * 4) / 1_048_576
    for (placement, copies) in [("node", 1), ("replicated", ranks)] {
      let run = try await scene.run(
        [
          "steps=1", "name=\(placement)", "teacher.model=\"\(scene.scene.folder.path(ModelFiles.weights))\"",
          "teacher.placement=\(placement)",
        ], ranks: ranks)
      #expect(run.status == 0, "\(run)")
      let line = try #require(run.output.split(separator: "\n").first { $0.hasPrefix("teacher's weights, ") })
      #expect(line.hasPrefix("teacher's weights, \(placement): "))
      let found = try #require(line.firstMatch(of: #/measured ([0-9.]+) MiB a node/#))
      let measured = try #require(Double(found.1))
      #expect(abs(measured / (whole * Double(copies)) - 1) < 0.15, "\(line), one is \(whole) MiB")
    }
  }

  /// A rank reads its part of the arena and no more.
  @Test func partsAreReadAlone() throws {
    let config = try ModelFiles.sizes(scene.sizes)
    let whole = CLIP<Float>(config, frozen: true)
    try ModelFiles.read(scene.weights, into: whole)
    let checkpoint = try scene.checkpoint("teacher", 4)
    for ranks in [1, 2, 3, 7] {
      for range in Step<Float>.slices(of: whole.parameters.count, ranks: ranks) {
        let (file, parts) = (CLIP<Float>(config, frozen: true), CLIP<Float>(config, frozen: true))
        fill(file.parameters.values, -7)
        fill(parts.parameters.values, -7)
        try ModelFiles.read(scene.weights, into: file, ranges: [range])
        try parts.read(checkpoint, ranges: [range])
        var expected = [Float](repeating: -7, count: whole.parameters.count)
        for entry in whole.parameters.entries {
          for index in entry.range.clamped(to: range) { expected[index] = whole.parameters.values[index] }
        }
        #expect(file.parameters.values.array == expected)
        #expect(parts.parameters.values.array == expected)
      }
    }
  }
}
