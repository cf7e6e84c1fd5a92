import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// SigLIP's loss and its `logit_bias` through the program: trained, exported, imported, taken over, frozen.
@Suite struct LogitBiasRunTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  private static let siglip = "objective={clip: 0, siglip: 1}"
  /// So small a rate that no number moves: what a run writes is what it began with.
  private static let still = ["steps=1", "optimizer.learning_rate=1e-30"]

  private func weights(_ folder: URL) throws -> SafetensorsFile {
    try SafetensorsFile(folder.appending(path: ModelFiles.weights))
  }

  /// The bias that a run has exported; nil where it has none.
  private func bias(_ name: String) throws -> Float? {
    let file = try weights(scene.runFolder(name))
    return file.contains("logit_bias") ? try file.tensor("logit_bias", as: Float.self)[0] : nil
  }

  private func kinship(_ arguments: [String], ranks: Int? = nil) async throws {
    let run = try await MPIRun.kinship(arguments, ranks: ranks)
    try #require(run.status == 0, "\(run)")
  }

  /// A run's weights with a bias beside them, and the run's config, which does not know of it.
  private func file(_ name: String, from run: String, _ bias: Tensor<Float>) throws -> String {
    let (source, folder) = (scene.runFolder(run), scene.folder.url.appending(path: name, directoryHint: .isDirectory))
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try FileManager.default.copyItem(
      at: source.appending(path: ModelFiles.config), to: folder.appending(path: ModelFiles.config))
    let plain = try weights(source)
    var entries = try plain.names.map { SafetensorsEntry($0, try plain.tensor($0, as: Float.self)) }
    entries.append(SafetensorsEntry("logit_bias", bias))
    let path = folder.appending(path: ModelFiles.weights).path
    try SafetensorsFile.write(entries, metadata: plain.metadata, to: path)
    return path
  }

  private struct Line: Decodable {
    var event: String
    var loss: Double?
    var terms: [String: Double]?
  }

  @Test func trainsOnOneRankAndOnTwo() async throws {
    let alone = try await scene.train("one", [Self.siglip, "steps=4"], ranks: 1)
    let together = try await scene.train("two", [Self.siglip, "steps=4", "reduce.bucket=0.01"], ranks: 2)
    #expect(alone.count == 4 && alone.allSatisfy { $0 > 0 }, "\(alone)")
    #expect(difference(together, alone) < 1e-5, "\(alone), \(together)")
    let text = try String(contentsOf: scene.runFolder("two").appending(path: RunLog.fileName), encoding: .utf8)
    let steps = try text.split(separator: "\n").map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
      .filter { $0.event == "step" }
    #expect(steps.count == 4 && steps.allSatisfy { $0.terms == ["siglip": $0.loss ?? .nan] })
    // At −10 pairs that belong together are unlikely, so the bias rises.
    let (one, two) = (try #require(try bias("one")), try #require(try bias("two")))
    #expect(one > -10 && one < -9.9 && abs(one - two) < 1e-5, "\(one), \(two)")
    #expect(try weights(scene.runFolder("one")).shape(of: "logit_bias") == Shape())
    // What stands in the run's folder is the model of its checkpoint.
    let checkpoint = scene.checkpoint("two", 4).path
    let merged = scene.folder.path("merged.safetensors")
    try await kinship(["merge", checkpoint, "-o", merged], ranks: 2)
    #expect(try SafetensorsFile(merged).tensor("logit_bias", as: Float.self)[0] == two)
  }

  @Test func goesOnAsIfNothingHadHappened() async throws {
    let values = [Self.siglip, "optimizer.schedule=constant", "ema={decay: 0.9}"]
    let whole = try await scene.train("whole", values + ["steps=4"], ranks: 2)
    try await scene.train("parts", values + ["steps=2"], ranks: 2)
    let parts = try await scene.train("parts", values + ["steps=4"], ["--resume", "latest"], ranks: 2)
    #expect(difference(parts, whole) < 1e-6, "\(parts), \(whole)")
    #expect(try bias("parts") == bias("whole"))
    let average = try weights(scene.runFolder("whole").appending(path: "ema", directoryHint: .isDirectory))
    let averaged = try average.tensor("logit_bias", as: Float.self)[0]
    #expect(averaged > -10 && averaged < -9.9)
    let other = try await scene.run(
      ["name=parts", "steps=6"], ["--resume", scene.checkpoint("parts", 4).path], ranks: 2)
    #expect(other.status != 0 && other.errors.contains("logit_bias"), "\(other)")
  }

  @Test func isExportedAndEvaluated() async throws {
    try await scene.train("run", [Self.siglip, "steps=3"], ranks: 2)
    let folder = scene.runFolder("run")
    let config = try Data(contentsOf: folder.appending(path: ModelFiles.config))
    let object = try #require(try JSONSerialization.jsonObject(with: config) as? [String: Any])
    let model = try #require(object["model_cfg"] as? [String: Any])
    #expect(model["init_logit_bias"] as? Double == -10)

    let (ours, theirs) = (scene.folder.path("ours"), scene.folder.path("theirs"))
    try await kinship(["weights", "export", folder.path, "--output", ours], ranks: 2)
    let file = URL(filePath: ours).appending(path: ModelFiles.weights)
    #expect(try Data(contentsOf: file) == Data(contentsOf: folder.appending(path: ModelFiles.weights)))
    let sizes = try ModelFiles.sizes(folder.appending(path: ModelFiles.config).path)
    #expect(try ModelFiles.sizes("\(ours)/\(ModelFiles.config)") == sizes)
    // Hugging Face's CLIPModel has no bias.
    try await kinship(["weights", "export", folder.path, "--form", "hugging_face", "--output", theirs])
    #expect(try !SafetensorsFile("\(theirs)/model.safetensors").contains("logit_bias"))

    // The bias changes no ranking: with it, without it, and with a config that does not know of it.
    let back = scene.folder.path("back")
    try await kinship(["weights", "import", theirs, "--output", back])
    let unknown = scene.folder.path("unknown")
    try FileManager.default.createDirectory(atPath: unknown, withIntermediateDirectories: true)
    for (source, name) in [(ours, ModelFiles.weights), (back, ModelFiles.config)] {
      try FileManager.default.copyItem(atPath: "\(source)/\(name)", toPath: "\(unknown)/\(name)")
    }
    var figures: [RetrievalFigures] = []
    for path in [ours, back, unknown] {
      let json = scene.folder.path("figures.json")
      try await kinship([
        "evaluate", "retrieval", "--checkpoint", "\(path)/\(ModelFiles.weights)", "--vocabulary", scene.vocabulary,
        "--dataset", scene.dataset, "--json", json,
      ])
      figures.append(try JSONDecoder().decode(RetrievalFigures.self, from: Data(contentsOf: URL(filePath: json))))
    }
    #expect(figures[1] == figures[0] && figures[2] == figures[0])
    try await kinship(["evaluate", "retrieval", "--checkpoint", folder.path, "--dataset", scene.dataset], ranks: 2)
  }

  @Test func isImportedAndTakenOver() async throws {
    try await scene.train("plain", Self.still, ranks: 1)
    let biased = try file("biased", from: "plain", Tensor(Shape(1), [-7.25]))
    let imported = scene.folder.path("imported")
    try await kinship(["weights", "import", biased, "--output", imported])
    let written = try SafetensorsFile("\(imported)/\(ModelFiles.weights)")
    #expect(try written.tensor("logit_bias", as: Float.self)[0] == -7.25)
    #expect(try written.shape(of: "logit_bias") == Shape())
    #expect(try ModelFiles.sizes("\(imported)/\(ModelFiles.config)").initialLogitBias == -10)

    try await scene.train("siglip", [Self.siglip, "init.from=\"\(imported)\""] + Self.still, ranks: 2)
    let own = "objective={siglip: 1, siglip_bias: -6}"
    let larger = "model.vision_cfg.image_size=32"
    let sources: [(String, String, Float?)] = [
      (biased, Self.siglip, -7.25), (imported, Self.siglip, -7.25),
      (scene.runFolder("siglip").path, own, -7.25), (scene.runFolder("plain").path, own, -6),
      (scene.runFolder("plain").appending(path: ModelFiles.weights).path, own, -6),
      (imported, "objective=clip", nil), (scene.runFolder("siglip").path, "objective=clip", nil),
    ]
    for (index, (path, objective, expected)) in sources.enumerated() {
      let resizings: [[String]] = index.isMultiple(of: 3) ? [[], [larger]] : [[]]
      for resized in resizings {
        let name = "from\(index)\(resized.isEmpty ? "" : "large")"
        try await scene.train(name, [objective, "init.from=\"\(path)\""] + resized + Self.still, ranks: 1 + index % 2)
        #expect(try bias(name) == expected, "\(path) under \(objective), \(resized)")
        guard resized.isEmpty else { continue }
        let (old, new) = (try weights(scene.runFolder("plain")), try weights(scene.runFolder(name)))
        for tensor in ["visual.proj", "text_projection", "token_embedding.weight"] {
          #expect(try new.tensor(tensor, as: Float.self).array == old.tensor(tensor, as: Float.self).array, "\(name)")
        }
      }
    }
    let wide = try file("wide", from: "plain", Tensor(Shape(3), [1, 2, 3]))
    let refused = try await scene.run(["name=refused", Self.siglip, "init.from=\"\(wide)\""], ranks: 2)
    #expect(
      refused.status == 65 && refused.errors.contains("misshapen: logit_bias is [3], the model's is []"), "\(refused)")
  }

  /// A teacher's bias changes no softmax, and one that is inherited or frozen is as any other parameter.
  @Test func teachesIsInheritedAndFrozen() async throws {
    try await scene.train("plain", ["steps=2"], ranks: 1)
    let biased = try file("biased", from: "plain", Tensor(Shape(), [-7.25]))
    let plain = scene.runFolder("plain").appending(path: ModelFiles.weights).path
    var losses: [[Double]] = []
    for (index, teacher) in [plain, biased].enumerated() {
      losses.append(
        try await scene.train(
          "taught\(index)", ["objective={crd: 1}", "teacher=\"\(teacher)\"", "steps=2"], ranks: 2))
    }
    #expect(losses[0] == losses[1])

    try await scene.train("siglip", [Self.siglip, "steps=3"], ranks: 2)
    let (student, given) = (scene.runFolder("siglip").path, try bias("siglip"))
    let heirs: [(String, Float?)] = [(student, given), (plain, -10)]
    for (index, (source, expected)) in heirs.enumerated() {
      try await scene.train("heir\(index)", [Self.siglip, "init.inherit=\"\(source)\""] + Self.still, ranks: 2)
      #expect(try bias("heir\(index)") == expected)
    }
    let run = try await scene.run(["name=frozen", Self.siglip, "freeze=[logit_bias]", "steps=3"], ranks: 2)
    #expect(run.status == 0 && run.output.contains("frozen: logit_bias, 1 parameters of "), "\(run)")
    #expect(try bias("frozen") == -10)
    let none = try await scene.run(["name=none", "freeze=[logit_bias]", "steps=1"], ranks: 1)
    #expect(none.status == 64 && none.errors.contains("\"logit_bias\""), "\(none)")
  }
}
