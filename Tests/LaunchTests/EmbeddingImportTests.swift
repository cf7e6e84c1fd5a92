import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Real jobs of `kinship precompute --from`, and training from its caches.
@Suite struct EmbeddingImportTests {
  let scene: CacheScene
  let dataset: Dataset
  /// The arrays of the teacher's embeddings: two random crops of each image, with their boxes.
  let arrays: [String: [UInt8]]

  init() async throws {
    let scene = try await CacheScene()
    try await scene.precompute("own", ranks: 1)
    let dataset = try Dataset.open(scene.scene.dataset)
    let run = try RunConfig.load(scene.scene.runFile, overrides: [])
    let preparation = try ImagePreparation(run.image.sized(16), seed: 0)
    let (width, views) = (24, 2)
    var (image, text, boxes): ([Float], [Float], [Float]) = ([], [], [])
    var scale = 0.0
    for part in 0..<CacheScene.parts {
      let file = try HDF5File.open("\(scene.folder("own"))/part-0000\(part).h5")
      image += try file.dataset("image").read(Float.self)
      text += try file.dataset("text").read(Float.self)
      scale = exp(try file.attributes.double("logit_scale"))
      try file.close()
    }
    for sample in 0..<dataset.count {
      let info = try ImageDecoder.probe(dataset.image(sample))
      for view in 0..<views {
        let box = preparation.cropBox(
          width: info.width, height: info.height, sampleID: dataset.sampleID(sample), view: view)
        for (edge, side) in [
          (box.left, info.width), (box.top, info.height), (box.left + box.width, info.width),
          (box.top + box.height, info.height),
        ] { boxes.append(Float(edge) / Float(side)) }
      }
    }
    let keys = (0..<dataset.count).map { dataset.key($0) }
    (self.scene, self.dataset) = (scene, dataset)
    // Another length changes no embedding.
    arrays = [
      "keys": NumpyArchive.text(keys), "image": NumpyArchive.floats([keys.count, views, width], image.map { 3 * $0 }),
      "boxes": NumpyArchive.floats([keys.count, views, 4], boxes),
      "text": NumpyArchive.floats([text.count / width, width], text),
      "text_keys": NumpyArchive.text(keys.flatMap { [$0, $0] }),
      "logit_scale": NumpyArchive.doubles([], [Float(scale)]),
    ]
  }

  private func file(_ name: String, _ arrays: [String: [UInt8]]) throws -> String {
    try scene.scene.folder.write(name, NumpyArchive.archive(arrays))
  }

  /// Returns the values with which a run uses a cache whose teacher has no model.
  private func settings(_ cache: String) -> [String] {
    ["teacher={cache: {path: \"\(scene.path(cache))\", part: 5}}", TeacherScene.objective, "data.views=2"]
  }

  private func take(
    _ cache: String, _ files: [String], _ values: [String] = [], _ options: [String] = [], ranks: Int?
  ) async throws -> MPIRun {
    try await MPIRun.kinship(
      ["precompute", scene.scene.runFile] + (settings(cache) + values).flatMap { ["--set", $0] } + ["--from"] + files
        + options, ranks: ranks)
  }

  /// Embeddings with their boxes teach as the model does that computed them: the student sees the same crops. The cache
  /// has the same files on any number of ranks, and another start finds all parts.
  @Test func teachesAsTheModelDoes() async throws {
    let alone = try await take("alone", [file("all.npz", arrays)], ranks: nil)
    try #require(alone.status == 0, "\(alone)")
    let contents = "images 24 wide (2 crops each, with boxes), captions 24 wide, logit_scale"
    #expect(alone.output.contains(contents), "\(alone)")
    #expect(alone.output.contains("46 of 92 embeddings were not of length 1, but from 1 to 3"), "\(alone)")
    let images = try file("images.npz", arrays.filter { !$0.key.hasPrefix("text") })
    let captions = try file("captions.npz", ["keys": arrays["text_keys"] ?? [], "text": arrays["text"] ?? []])
    let both = try await take("both", [images, captions], ranks: 2)
    try #require(both.status == 0, "\(both)")
    for name in try scene.files("alone").keys where name.hasSuffix(".h5") && name.hasPrefix("part") {
      let files = try ["alone", "both"].map { try HDF5File.open("\(scene.folder($0))/\(name)") }
      for data in ["image", "text", "boxes"] {
        let found = try files.map { try $0.dataset(data).read(Float.self) }
        #expect(!found[0].isEmpty && found[0] == found[1], "\(name), \(data)")
      }
      for file in files { try file.close() }
    }
    let again = try await take("both", [captions, images], ranks: 2)
    #expect(again.status == 0 && again.output.contains("5 parts, 5 of them there already"), "\(again)")

    let wanted = try await scene.train("own", from: "own", ["steps=8"])
    let found = try await scene.scene.train("imported", settings("both") + ["steps=8"], ranks: 2)
    #expect(found.count == 8 && difference(found, wanted) < 1e-5, "\(found), \(wanted)")
    // Other crops are other images, so the comparison would notice wrong ones.
    let other = try await scene.train("other", from: "own", ["steps=8", "data.views=1"])
    #expect(difference(other, wanted) > 1e-4)
  }

  /// Captions of one model and images of another, or captions alone, teach the terms that compare each with itself.
  @Test func sidesApart() async throws {
    let texts = ["keys": arrays["text_keys"] ?? [], "text": arrays["text"] ?? []]
    let run = try await take("texts", [file("texts.npz", texts)], ranks: nil)
    try #require(run.status == 0 && run.output.contains("no images, captions 24 wide, no logit_scale"), "\(run)")
    let intra = "objective={preset: clip, intra: 1, intra_options: {image: 0, temperature: fixed_tau}}"
    // New crops in each epoch: the embeddings of captions do not depend on them. The first epoch has the same.
    let losses = try await scene.scene.train("texts", settings("texts") + [intra, "data.views=0", "steps=3"], ranks: 2)
    let same = try await scene.train("texts-of-own", from: "own", [intra, "steps=3"])
    #expect(losses.count == 3 && difference(losses, same) < 1e-5, "\(losses), \(same)")
    for (objective, words) in [
      ("clip, fd: 1", "fd reads the teacher's embeddings of images"),
      ("clip, crd: 1", "crd reads the teacher's embeddings of images"),
      ("clip, intra: 1, intra_options: {image: 0}", "intra multiplies the teacher's cosines by its logit_scale"),
    ] {
      let refused = try await scene.scene.run(
        settings("texts") + ["objective={preset: \(objective)}", "data.views=0"], ["--dry-run"], ranks: nil)
      #expect(refused.status == 65 && refused.errors.contains(words), "\(refused)")
    }

    // Without a scale the two sides need not be of one width, nor of one space.
    var apart = arrays
    apart["logit_scale"] = nil
    let captions = dataset.index.totals.captions
    apart["text"] = NumpyArchive.floats([captions, 3], (0..<3 * captions).map { Float($0 % 7) - 2 })
    let mixed = try await take("mixed", [file("mixed.npz", apart)], ranks: nil)
    #expect(mixed.status == 0 && mixed.output.contains("captions 3 wide"), "\(mixed)")
    let gram = try await scene.scene.train(
      "gram", settings("mixed") + ["objective={preset: clip, gram: 1}"], ranks: nil)
    #expect(gram.count == 10 && gram.allSatisfy(\.isFinite))
    let crossed = try await scene.scene.run(
      settings("mixed") + ["objective={preset: clip, icl: 1}"], ["--dry-run"], ranks: nil)
    #expect(crossed.errors.contains("icl compares the teacher's images with its captions"), "\(crossed)")
  }

  @Test func refusals() async throws {
    func expect(_ run: MPIRun, _ status: Int, _ words: String, at location: SourceLocation = #_sourceLocation) {
      #expect(run.status == status && run.errors.contains(words), "\(run)", sourceLocation: location)
    }
    let good = try file("good.npz", arrays)
    var changed = arrays
    let keys = (0..<dataset.count).map { dataset.key($0) }
    changed["keys"] = NumpyArchive.text(["x"] + keys.dropFirst())
    let missing = try file("missing.npz", changed)
    expect(try await take("c", [missing], ranks: 2), 65, "1 of the 23 images of the dataset corpus have no embedding")
    // A caption beyond those of the dataset.
    let row = NumpyArchive.floats([1, 24], [Float](repeating: 1, count: 24))
    let extra = try file("extra.npz", ["keys": NumpyArchive.text(["x"]), "text": row])
    expect(try await take("c", [good, extra], ranks: nil), 65, "1 row of a key that the dataset corpus lacks, first")
    let left = try await take("extra", [good, extra], [], ["--allow-extra"], ranks: nil)
    #expect(left.status == 0 && left.output.contains("left out 1 row of a key"), "\(left)")

    expect(try await take("c", [good], ["teacher.model=a"], ranks: nil), 64, "teacher.model names a: leave it out")
    expect(try await take("c", [good], ["teacher=none", "objective=clip"], ranks: nil), 64, "teacher.cache is missing")
    expect(try await take("own", [good], ranks: nil), 65, "its embeddings are those of the model")
    expect(try await take("c", [scene.scene.folder.path("no.npz")], ranks: nil), 74, "no.npz: cannot open it")
    let nothing = try await MPIRun.kinship(
      ["precompute", scene.scene.runFile] + settings("c").flatMap { ["--set", $0] }, ranks: nil)
    expect(nothing, 64, "the run names no teacher.model, so there is nothing to compute")

    let taken = try await take("c", [good], ranks: nil)
    try #require(taken.status == 0, "\(taken)")
    for (values, status, words) in [
      (["data.views=3"], 64, "it has 2 crops of each image, and data.views is 3"),
      (["data.views=0"], 64, "it has 2 crops of each image, and data.views is 0"),
      (["image.crop=center"], 64, "image.crop is center; set image.crop to random"),
      (["image.grayscale=0.5"], 64, "crops in their own colours"),
      (["teacher.model=\"\(scene.teacher.teacher)\""], 65, "another program computed its embeddings"),
      (["teacher.vocabulary=a"], 64, "teacher.vocabulary: describes a model"),
    ] {
      expect(try await scene.scene.run(settings("c") + values, ["--dry-run"], ranks: nil), status, words)
    }
    let own = try await scene.scene.run(settings("own"), ["--dry-run"], ranks: nil)
    expect(own, 65, "its embeddings are those of the model")
    // One embedding for each image is that of its central crop.
    var central = changed
    central["keys"] = arrays["keys"]
    central["boxes"] = nil
    central["image"] = NumpyArchive.floats([23, 24], (0..<23 * 24).map { Float($0 % 5) + 1 })
    let whole = try await take("whole", [file("whole.npz", central)], ranks: nil)
    #expect(whole.status == 0 && whole.output.contains("images 24 wide (central crops)"), "\(whole)")
    expect(try await scene.scene.run(settings("whole"), ["--dry-run"], ranks: nil), 64, "those of central crops")
    // A held-out loss takes them, from a cache of its own.
    let loss = ["evaluate={every: 3, evaluations: [{kind: loss, dataset: \"\(scene.scene.dataset)\"}]}"]
    expect(
      try await scene.scene.run(settings("c") + loss, ["--dry-run"], ranks: nil), 74,
      "holds no embeddings of the dataset corpus; run kinship precompute --from FILES")
    let held = try await take("c/evaluation", [file("whole.npz", central)], ranks: nil)
    try #require(held.status == 0, "\(held)")
    let both = try await scene.scene.run(settings("c") + loss, ["--dry-run"], ranks: nil)
    #expect(both.status == 0 && both.output.contains("loss corpus: the objective over"), "\(both)")
    let header = try await scene.scene.run(settings("whole") + ["image.crop=center"], ["--dry-run"], ranks: nil)
    #expect(
      header.status == 0 && header.output.contains("embeddings that another program computed, 24 wide"), "\(header)")
  }
}
