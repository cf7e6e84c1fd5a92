import Dist
import Foundation
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Real jobs of `kinship precompute`, and training from its caches.
@Suite struct PrecomputeTests {
  let scene: CacheScene

  init() async throws { scene = try await CacheScene() }

  /// A cache has the same files with the same bytes on any number of ranks, and trains the same student as the live
  /// teacher. Twenty steps cross six ends of epochs and use both views of each image.
  @Test func equalsTheLiveTeacherOnAnyNumberOfRanks() async throws {
    let said = try await scene.precompute("on1", ranks: 1)
    #expect(said.output.contains("corpus  complete; 8 embeddings computed again differ by at most"), "\(said)")
    let alone = try scene.files("on1")
    #expect(alone.keys.filter { $0.hasSuffix(".h5") }.count == CacheScene.parts + 1)
    for ranks in [2, 3] {
      try await scene.precompute("on\(ranks)", ranks: ranks)
      #expect(try scene.files("on\(ranks)") == alone)
    }
    let steps = ["steps=20", "data.views=2"]
    let live = try await scene.teacher.train("live", steps)
    for ranks in [1, 2, 3] {
      let cached = try await scene.train("cached\(ranks)", from: "on1", steps, ranks: ranks)
      #expect(cached.count == 20 && difference(cached, live) < 1e-5, "\(ranks): \(cached), live \(live)")
    }
    // Other views are other crops, so the comparison above would notice wrong ones.
    let other = try await scene.teacher.train("other", ["steps=20", "data.views=1"])
    #expect(difference(other, live) > 1e-4)
  }

  @Test func contentsOfAPart() async throws {
    try await scene.precompute("cache", ranks: 2)
    let file = try HDF5File.open("\(scene.folder("cache"))/part-00004.h5")
    #expect(try file.dataset("image").shape == [3, 2, 24])
    #expect(try file.dataset("text").shape == [6, 24])
    #expect(try file.attributes.integer("views") == 2)
    #expect(try file.attributes.string("corpus") == "corpus")
    #expect(try file.attributes.string("image_scale") == "[0.5, 1.0]")
    #expect(try file.attributes.string("teacher_sha256").count == 64)
    #expect(try file.attributes.double("logit_scale").isFinite)
    let image = try file.dataset("image").read(Float.self)
    #expect(
      stride(from: 0, to: image.count, by: 24).allSatisfy {
        abs(image[$0..<$0 + 24].reduce(0) { $0 + $1 * $1 } - 1) < 1e-5
      })
    #expect(Array(image[0..<24]) != Array(image[24..<48]), "two views")
    try file.close()
  }

  /// Each dataset has its own folder in the cache. A dataset that a run mixes in twice is embedded once.
  @Test func severalDatasets() async throws {
    let second = scene.scene.folder.path("second")
    let imported = try await MPIRun.kinship(
      [
        "dataset", "import", scene.scene.folder.path("table.csv"), "--output", second, "--name", "second/part",
        "--caption-columns", "keywords",
      ], ranks: nil)
    try #require(imported.status == 0, "\(imported)")
    let mixed = [
      "data.datasets=[\"\(second)\", {path: \"\(scene.scene.dataset)\", weight: 2}, \"\(second)\"]", "steps=20",
    ]
    let said = try await scene.precompute("mixed", mixed, ranks: 3)
    #expect(said.output.split(separator: "\n").count { $0.contains("  complete; ") } == 2, "\(said)")
    let folders = try FileManager.default.contentsOfDirectory(atPath: scene.path("mixed")).sorted()
    #expect(folders == ["corpus", "second_part"])
    let live = try await scene.teacher.train("live", ["data.views=2"] + mixed)
    for ranks in [1, 2] {
      let cached = try await scene.train("cached\(ranks)", from: "mixed", mixed, ranks: ranks)
      #expect(cached.count == 20 && difference(cached, live) < 1e-5, "\(ranks): \(cached), live \(live)")
    }
  }

  /// Without augmentation an image has one view, whatever `data.views` is, and the cache equals the live teacher.
  @Test func oneCentralView() async throws {
    let center = ["image.crop=center", "data.views=0"]
    try await scene.precompute("center", center, ranks: 2)
    let file = try HDF5File.open("\(scene.folder("center"))/part-00000.h5")
    #expect(try file.dataset("image").shape == [5, 1, 24])
    let live = try await scene.teacher.train("live", center)
    let cached = try await scene.train("cached", from: "center", center, ranks: 2)
    #expect(difference(cached, live) < 1e-5)
  }

  @Test(arguments: [("fp16", 1e-3), ("bf16", 1e-2)]) func halfTheBytes(type: String, tolerance: Double) async throws {
    try await scene.precompute(type, ["teacher.cache.type=\(type)"], ranks: 2)
    let live = try await scene.teacher.train("live", ["data.views=2"])
    let cached = try await scene.train(type, from: type, ranks: 2)
    let off = difference(cached, live)
    #expect(off < tolerance && off > 1e-7, "\(off)")
  }

  @Test func refusals() async throws {
    func expect(_ run: MPIRun, _ status: Int, _ words: String..., at location: SourceLocation = #_sourceLocation) {
      #expect(run.status == status, "\(run)", sourceLocation: location)
      for word in words { #expect(run.errors.contains(word), "\(word): \(run)", sourceLocation: location) }
    }
    func train(_ cache: String, _ values: [String]) async throws -> MPIRun {
      try await scene.scene.run(scene.settings(cache) + values, ranks: 2)
    }
    expect(try await train("cache", []), 74, "there is no cache.json; run kinship precompute first")
    expect(try await train("cache", ["data.views=0"]), 64, "data.views: 0 (no crop is ever shown twice)")
    expect(try await scene.run("cache", ["teacher.cache=none"], ranks: 2), 64, "teacher.cache is missing")
    try await scene.precompute("cache", ranks: 2)

    try await scene.scene.train("second", ["steps=2", "seed=9"], ranks: nil)
    let second = scene.scene.runFolder("second").path(percentEncoded: false)
    let other = try await train("cache", ["teacher.model=\"\(second)\""])
    expect(other, 65, "its teacher is \(scene.teacher.teacher) (SHA-256 ", "the run asks for \(second) (SHA-256 ")
    expect(
      try await train("cache", ["image.scale=[0.75, 1]"]), 65,
      "its teacher's image.scale is [0.5, 1.0], the run asks for [0.75, 1.0]")
    expect(
      try await train("cache", ["image.scaled_dct=true"]), 65,
      "its teacher's image.scaled_dct is not given, the run asks for true")
    expect(try await train("cache", ["data.seed=5"]), 65, "its data.seed is 0, the run asks for 5")
    expect(try await train("cache", ["data.views=3"]), 65, "its data.views is 2, the run asks for 3")
    // A cache may have more views than the run asks for.
    #expect(try await scene.train("fewer", from: "cache", ["data.views=1", "steps=2"]).count == 2)
    // Precomputing does not add to a cache of other settings.
    expect(
      try await scene.run("cache", ["data.seed=5"], ranks: 2), 65, "its data.seed is 0, the run asks for 5",
      "name another folder in teacher.cache")
    expect(
      try await scene.run("cache", ["teacher.cache.type=bf16"], ranks: 2), 65,
      "its numbers are fp32, the run asks for bf16")

    // The cache refuses another dataset of the same name.
    let imported = try await MPIRun.kinship(
      [
        "dataset", "import", scene.scene.folder.path("table.csv"), "--output", scene.scene.folder.path("b/corpus"),
        "--caption-columns", "title",
      ], ranks: nil)
    try #require(imported.status == 0, "\(imported)")
    expect(
      try await train("cache", ["data.datasets=[\"\(scene.scene.folder.path("b/corpus"))\"]"]), 65,
      "its dataset is corpus with 23 images and 46 captions",
      "the run asks for corpus with 23 images and 23 captions")
  }
}
