import Dist
import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

/// A teacher of another program drops alpha, as in open_clip, unless its files or the run file say otherwise. Caches
/// and runs that were begun in another way keep to it.
@Suite struct TeacherAlphaTests {
  let scene: TeacherScene

  init() async throws { scene = try await TeacherScene() }

  /// Returns the values for the scene's teacher as another program's files, whose `preprocess_cfg` has this `alpha`.
  private func foreign(_ alpha: String? = nil) throws -> [String] {
    var object = try ModelFiles.object(Data(contentsOf: URL(filePath: scene.sizes)), scene.sizes)
    object["preprocess_cfg"] = alpha.map { ["alpha": $0] } ?? [:]
    let config = try scene.scene.folder.write(
      "\(alpha ?? "none").json", JSONSerialization.data(withJSONObject: object))
    return [
      "teacher.model=\"\(scene.weights)\"", "teacher.config=\"\(config)\"", "teacher.vocabulary=\"\(scene.words)\"",
    ]
  }

  private func run(_ values: [String]) throws -> RunConfig {
    try RunConfig.load(
      scene.scene.runFile, overrides: ["teacher=\"\(scene.teacher)\"", TeacherScene.objective] + values)
  }

  @Test func aTeacherOfAnotherProgramDropsAlpha() throws {
    func alpha(_ values: [String]) throws -> AlphaHandling {
      try #require(try TeacherModel(run(values))).input.image.alpha
    }
    let (white, drop) = ("teacher.image.alpha=white", "teacher.image.alpha=drop")
    #expect(try alpha(foreign()) == .drop)
    #expect(try alpha(foreign("white")) == .white)
    #expect(try alpha(foreign() + [white]) == .white)
    #expect(try alpha(foreign("white") + [drop]) == .drop)
    let path = try scene.scene.folder.write("alone/model.safetensors", Data(contentsOf: URL(filePath: scene.weights)))
    let preset = ["teacher.model=\"\(path)\"", "teacher.preset=ViT-64-T-16"]
    #expect(try alpha(preset) == .drop)
    #expect(try alpha([white]) == .white)

    // A preset has sizes alone: a file beside the weights says how their images are prepared.
    let config = try CLIPConfig(preset: "ViT-64-T-16")
    let kept: [String: Any] = ["alpha": "white", "mean": 0.5]
    let described = try ModelFiles.json(config, preprocessing: ImageOptions(), keeping: kept)
    try scene.scene.folder.write("alone/\(ModelFiles.config)", described)
    let image = try #require(try TeacherModel(run(preset))).input.image
    #expect(image.alpha == .white && image.mean == [0.5, 0.5, 0.5])
  }

  @Test func aResumedRunKeepsItsWay() async throws {
    func kept(_ recorded: [String: String], _ values: [String]) throws -> AlphaHandling? {
      try run(values).keepingAlpha(recorded).teacher?.image.alpha
    }
    // Earlier releases did not record the key.
    let earlier = ["teacher.model": scene.weights]
    #expect(try kept(earlier, foreign()) == .white)
    #expect(try kept(earlier, foreign("drop")) == .drop)
    #expect(try kept(earlier, foreign() + ["teacher.image.alpha=drop"]) == .drop)
    #expect(try kept(earlier, []) == nil, "a teacher of ours")
    #expect(try kept(["teacher": "none"], foreign()) == nil)
    for (word, alpha) in [("own", nil), ("white", .white), ("drop", .drop)] as [(String, AlphaHandling?)] {
      #expect(try kept(earlier.merging(["teacher.image.alpha": word]) { $1 }, foreign()) == alpha)
    }

    let values = try ["name=begun"] + foreign()
    let begun = try await scene.run(values + ["steps=1"])
    #expect(begun.status == 0 && begun.output.contains("; alpha drop; words of "), "\(begun)")
    try makeEarlier(scene.scene.checkpoint("begun", 1))
    let resumed = try await scene.run(values + ["steps=2"], ["--resume", "latest"], ranks: 2)
    #expect(resumed.status == 0 && resumed.output.contains("; alpha white; words of "), "\(resumed)")
    #expect(try SavedRun(scene.checkpoint("begun", 2)).settings["teacher.image.alpha"] == "white")
  }

  /// Removes from a checkpoint what earlier releases did not record.
  private func makeEarlier(_ checkpoint: URL) throws {
    let manifest = checkpoint.appending(path: CheckpointManifest.file)
    let text = try String(contentsOf: manifest, encoding: .utf8)
    let earlier = text.replacing(#"    alpha: own\\n"#, with: "")
    try #require(earlier != text)
    try Data(earlier.utf8).write(to: manifest)
    let digest = "\(try SHA256.ofFile(manifest.path))  \(CheckpointManifest.file)\n"
    try Data(digest.utf8).write(to: checkpoint.appending(path: "manifest.sha256"))
  }

  @Test func aCacheKeepsItsWay() async throws {
    let cache = ["data.views=2", "teacher.cache=\"\(scene.scene.folder.path("cache"))\""]
    func alpha(_ values: [String]) throws -> AlphaHandling {
      var teacher = try #require(try TeacherModel(run(values + cache)))
      try teacher.keepAlpha(ofCacheOf: [Dataset.open(scene.scene.dataset)])
      return teacher.input.image.alpha
    }
    func precompute(_ values: [String], ranks: Int?) async throws -> MPIRun {
      let all = ["teacher=\"\(scene.teacher)\"", TeacherScene.objective] + values + cache
      return try await MPIRun.kinship(
        ["precompute", scene.scene.runFile] + all.flatMap { ["--set", $0] }, ranks: ranks)
    }
    #expect(try alpha(foreign()) == .drop)
    let made = try await precompute(foreign() + ["teacher.image.alpha=white"], ranks: nil)
    #expect(made.status == 0 && made.output.contains("embedding 24, alpha white;"), "\(made)")
    #expect(try alpha(foreign()) == .white)
    #expect(try alpha(foreign("drop")) == .drop)
    #expect(try alpha(foreign() + ["teacher.image.alpha=drop"]) == .drop)

    let again = try await precompute(foreign(), ranks: 2)
    #expect(again.status == 0 && again.output.contains("embedding 24, alpha white;"), "\(again)")
    #expect(again.output.contains("1 part, 1 of them there already"), "\(again)")
    let taken = try await scene.run(foreign() + cache + ["name=taken", "steps=1"])
    #expect(taken.status == 0 && taken.output.contains("; alpha white; not loaded: "), "\(taken)")
    let refused = try await scene.run(foreign() + cache + ["name=refused", "teacher.image.alpha=drop"])
    #expect(refused.status == 65, "\(refused)")
    #expect(refused.errors.contains("its teacher's image.alpha is white, the run asks for drop"), "\(refused)")
  }
}
