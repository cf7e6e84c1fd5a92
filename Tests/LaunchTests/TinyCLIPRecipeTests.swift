import Foundation
import Model
import Tensor
import Testing

@testable import Launch

/// The stages of TinyCLIP as run files: each is a run, and each model can be cut from the one that it names.
@Suite struct TinyCLIPRecipeTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "scripts/recipes/tinyclip", directoryHint: .isDirectory)

  private static func recipe(_ name: String) throws -> RunConfig {
    try RunConfig.load(folder.appending(path: "\(name).yaml").path)
  }

  @Test func everyStageIsARun() throws {
    let files = try FileManager.default.contentsOfDirectory(at: Self.folder, includingPropertiesForKeys: nil)
      .filter { $0.pathExtension == "yaml" }
    #expect(files.count >= 11)
    for file in files {
      let name = file.deletingPathExtension().lastPathComponent
      let run = try Self.recipe(name)
      #expect(run.name == name && run.start.inherit != nil)
      #expect(name.contains("auto") == (run.prune != nil))
      if name.hasPrefix("emoji") { continue }
      #expect(run.batch.global == 32768 && run.optimizer.clipNorm == 5 && run.objective.preset == .tinyCLIP)
    }
  }

  /// Parameters as TinyCLIP's names have them, in millions: image tower, and text tower without its token embedding.
  @Test(arguments: [
    ("vit-61m-32-text-29m", "ViT-B-32", 61.0, 29.0), ("vit-40m-32-text-19m", "vit-61m-32-text-29m", 40, 19),
    ("vit-39m-16-text-19m", "ViT-B-16", 39, 19), ("vit-8m-16-text-3m", "vit-39m-16-text-19m", 8, 3),
    ("auto-25", "ViT-B-32", 88, 38), ("emoji-manual-50", "emoji-manual-75", 0.8, 0.9),
  ])
  func everyStageCanBeCutFromTheOneBefore(_ name: String, _ from: String, _ image: Double, _ text: Double) throws {
    let config = try Self.recipe(name).model.resolved()
    let before = from.hasPrefix("ViT") ? try CLIPConfig(preset: from) : try Self.recipe(from).model.resolved()
    #expect(try !Inheritance(from: before, to: config).cuts.isEmpty)
    let entries = CLIP<Float>.layout(config).entries
    func millions(_ part: (String) -> Bool) -> Double {
      Double(entries.filter { part($0.name) }.reduce(0) { $0 + $1.shape.count }) / 1e6
    }
    let sizes = (
      millions { $0.hasPrefix("visual.") },
      millions { !$0.hasPrefix("visual.") && $0 != "token_embedding.weight" }
    )
    #expect(abs(sizes.0 - image) <= max(0.05 * image, 0.6) && abs(sizes.1 - text) <= max(0.05 * text, 0.6), "\(sizes)")
  }
}
