import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Runs `kinship merge` on the output of `kinship train`: it writes one file, the same on any number of ranks, that can
/// replace the checkpoint.
@Suite struct MergeTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  private func merge(_ arguments: [String], ranks: Int? = nil) async throws -> MPIRun {
    try await MPIRun.kinship(["merge"] + arguments, ranks: ranks)
  }

  private func merged(_ arguments: [String], to name: String, ranks: Int? = nil) async throws -> String {
    let path = scene.folder.path(name)
    let run = try await merge(arguments + ["-o", path], ranks: ranks)
    try #require(run.status == 0, "\(run)")
    return path
  }

  private func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(filePath: path)) }

  /// Returns the parameters of a checkpoint as slices of an arena without gaps, and its size.
  private func layout(_ checkpoint: Checkpoint) -> (entries: [NamedSlice], count: Int) {
    var count = 0
    let entries = checkpoint.manifest.parameters.map { parameter in
      let shape = Shape(parameter.shape) ?? Shape()
      defer { count += shape.count }
      return NamedSlice(name: parameter.name, shape: shape, offset: count)
    }
    return (entries, count)
  }

  /// Returns a parameter of a checkpoint as one tensor.
  private func value(_ checkpoint: Checkpoint, _ name: String) throws -> [Float] {
    let (entries, count) = layout(checkpoint)
    let whole = Tensor<Float>(Shape(count))
    try checkpoint.readValues(entries, into: whole)
    let entry = try #require(entries.first { $0.name == name })
    return whole.slice(entry.range).array
  }

  private func figures(_ source: String, ranks: Int?) async throws -> RetrievalFigures {
    let json = scene.folder.path("figures.json")
    let run = try await MPIRun.kinship(
      [
        "evaluate", "retrieval", "--candidates", "distinct-captions", "--checkpoint", source, "--dataset",
        scene.dataset,
        "--json", json,
      ], ranks: ranks)
    try #require(run.status == 0, "\(run)")
    return try JSONDecoder().decode(RetrievalFigures.self, from: Data(contentsOf: URL(filePath: json)))
  }

  @Test func oneFileIsTheSameOnAnyNumberOfRanksAndEvaluatesLikeTheCheckpoint() async throws {
    try await scene.train("run", ["steps=6"], ranks: 3)
    let folder = scene.runFolder("run").path
    let checkpoint = try Checkpoint.open(scene.checkpoint("run", 6).path)
    let expected = try await figures(folder, ranks: 2)
    for form in ["safetensors", "h5"] {
      let files = [
        try await merged([folder], to: "alone.\(form)"),
        try await merged([scene.checkpoint("run", 6).path], to: "on2.\(form)", ranks: 2),
        try await merged([folder + "/checkpoints/latest"], to: "on3.\(form)", ranks: 3),
      ]
      for file in files.dropFirst() { #expect(try bytes(file) == bytes(files[0])) }
      #expect(try await figures(files[0], ranks: 2) == expected)
      let file = try WeightsFile.open(files[0])
      #expect(Set(file.names) == Set(checkpoint.manifest.parameters.map(\.name)))
      for parameter in checkpoint.manifest.parameters {
        #expect(try file.shape(of: parameter.name).array == parameter.shape)
        let tensor = Tensor<Float>(try file.shape(of: parameter.name))
        try file.read(parameter.name, into: tensor)
        #expect(try tensor.array == value(checkpoint, parameter.name), "\(parameter.name)")
      }
      let record = try JSONDecoder().decode(MergeRecord.self, from: Data((file.metadata[MergeRecord.key] ?? "").utf8))
      let source = try #require(record.sources.first)
      #expect(record.sources.count == 1 && record.average == "none" && !record.optimizer && record.step == 6)
      #expect(source.checkpoint == checkpoint.folder && source.run == "run" && source.step == 6 && source.weight == 1)
      #expect(try source.sha256 == SHA256.ofFile(checkpoint.folder + "/manifest.json"))
      #expect(file.metadata["kinship_version"] == Release.version && file.metadata["activation"] == "gelu")
    }
    // Other commands recognise the file by its metadata.
    let inspected = try await MPIRun.kinship(["weights", "inspect", scene.folder.path("alone.h5")], ranks: nil)
    #expect(inspected.status == 0 && inspected.output.contains("fits these sizes"), "\(inspected)")
    let model = scene.folder.path("model")
    let exported = try await MPIRun.kinship(
      ["weights", "export", scene.folder.path("alone.h5"), "-o", model], ranks: nil)
    #expect(exported.status == 0, "\(exported)")
    let before = scene.runFolder("run").appending(path: "open_clip_model.safetensors").path
    #expect(try bytes(model + "/open_clip_model.safetensors") == bytes(before))
    let student = try await scene.run(
      ["name=cut", "steps=1", "init.inherit=\(scene.folder.path("alone.h5"))"], ranks: 2)
    #expect(student.status == 0 && student.output.contains("inherits both towers"), "\(student)")
  }

  /// A merged file is a teacher that needs no other file.
  @Test func teaches() async throws {
    try await scene.train("run", ["steps=1"], ranks: 2)
    let teachers = [
      scene.runFolder("run").path, try await merged([scene.runFolder("run").path], to: "teacher.h5", ranks: 2),
    ]
    var losses: [[Double]] = []
    for (index, teacher) in teachers.enumerated() {
      losses.append(
        try await scene.train(
          "taught\(index)", ["steps=2", "objective.preset=standard", "teacher.model=\(teacher)"], ranks: 2))
    }
    #expect(losses[0] == losses[1])
  }

  /// Another program sees a data set for each parameter.
  @Test func h5dumpReadsTheFile() async throws {
    try await scene.train("run", ["steps=1"], ranks: nil)
    let path = try await merged([scene.runFolder("run").path], to: "model.h5")
    let run = try await MPIRun.execute(["h5dump", "-d", "/logit_scale", "-a", "/kinship_version", path])
    #expect(run.status == 0 && run.output.contains("H5T_IEEE_F32LE") && run.output.contains("(0): 2.6"), "\(run)")
    #expect(run.output.contains("(0): \"\(Release.version)\""), "\(run)")
  }

  @Test func averages() async throws {
    try await scene.train("run", ["steps=6", "checkpoint.every=2", "optimizer.learning_rate=1e-2"], ranks: 2)
    let paths = [2, 4, 6].map { scene.checkpoint("run", $0).path }
    let checkpoints = try paths.map { try Checkpoint.open($0) }
    let names = ["logit_scale", "token_embedding.weight", "visual.transformer.resblocks.1.mlp.c_fc.weight"]
    for (options, weights, text) in [
      (["--average"], [1.0 / 3, 1.0 / 3, 1.0 / 3], "uniform"),
      (["--weights", "1,0,3"], [0.25, 0, 0.75], "weights"),
      (["--ema", "0.9"], [0.9 * 0.9, 0.1 * 0.9, 0.1], "ema 0.9"),
    ] {
      let path = try await merged(paths + options, to: "\(weights[0]).safetensors", ranks: weights[0] > 0.5 ? 3 : nil)
      let file = try WeightsFile.open(path)
      for name in names {
        let values = try checkpoints.map { try value($0, name) }
        let tensor = Tensor<Float>(try file.shape(of: name))
        try file.read(name, into: tensor)
        for (index, found) in tensor.array.enumerated() {
          let exact = zip(values, weights).reduce(0.0) { $0 + Double($1.0[index]) * $1.1 }
          #expect(abs(Double(found) - exact) <= Double(Float(exact).ulp) / 2 * 1.0001, "\(name)[\(index)]")
        }
        #expect(values[0] != values[2])
      }
      let record = try JSONDecoder().decode(MergeRecord.self, from: Data((file.metadata[MergeRecord.key] ?? "").utf8))
      #expect(record.average == text && record.sources.map(\.step) == [2, 4, 6])
      #expect(zip(record.sources.map(\.weight), weights).allSatisfy { abs($0 - $1) < 1e-15 })
      _ = try await figures(path, ranks: nil)
    }
    let backwards = try await merge([paths[1], paths[0], "--ema", "0.5", "-o", scene.folder.path("x.h5")], ranks: 2)
    #expect(backwards.status == 64 && backwards.errors.contains("--ema takes checkpoints in the order"), "\(backwards)")
    let twice = try await merge([paths[2], scene.runFolder("run").path, "--average", "-o", scene.folder.path("x.h5")])
    #expect(twice.status == 64 && twice.errors.contains("is named twice"), "\(twice)")
  }

  @Test func runningStatisticsAreAveragedAndCountsAreNot() async throws {
    let values = ["model.vision_cfg={image_size: 32, layers: [1, 1, 1, 1], width: 4, head_width: 32}"]
    try await scene.train("run", values + ["steps=5", "checkpoint.every=3"], ranks: 2)
    let paths = [3, 5].map { scene.checkpoint("run", $0).path }
    let arrays = try paths.map { path in
      Dictionary(
        uniqueKeysWithValues: try Checkpoint.open(path).manifest.record.arrays.map { ($0.name, $0.values) })
    }
    for form in ["h5", "safetensors"] {
      let path = try await merged(paths + ["--average"], to: "mean.\(form)", ranks: 2)
      let file = try WeightsFile.open(path)
      #expect(try file.integers("visual.bn1.num_batches_tracked") == [5])
      let name = "visual.layer2.0.bn1.running_var"
      let found = Tensor<Float>(try file.shape(of: name))
      try file.read(name, into: found)
      let expected = zip(arrays[0][name] ?? [], arrays[1][name] ?? []).map { Float(($0 + $1) / 2) }
      #expect(found.array == expected && arrays[0][name] != arrays[1][name])
      _ = try await figures(path, ranks: 2)
    }
  }

  @Test func theOptimizerComesAlongWhenAsked() async throws {
    // The checkpoint is taken while the model is being pruned.
    try await scene.train("run", ["prune={sparsity: 0.3, step: 6}", "checkpoint.every=4"], ranks: 2)
    let source = scene.checkpoint("run", 4).path
    let path = try await merged([source, "--optimizer"], to: "all.h5", ranks: 2)
    let checkpoint = try Checkpoint.open(source)
    let file = try WeightsFile.open(path)
    let parameters = checkpoint.manifest.parameters.map(\.name)
    let arrays = checkpoint.manifest.record.arrays
    #expect(!arrays.isEmpty && arrays.allSatisfy { $0.name.hasPrefix("prune.") })
    let moments = ["moment1", "moment2"].flatMap { kind in parameters.map { "optimizer.\(kind).\($0)" } }
    #expect(Set(file.names) == Set(parameters + moments + arrays.map(\.name)))
    let entry = try #require(checkpoint.manifest.parameters.first { $0.name == "visual.proj" })
    let (entries, count) = layout(checkpoint)
    let values = Tensor<Float>(Shape(count))
    let (first, second) = (Tensor<Float>(Shape(count)), Tensor<Float>(Shape(count)))
    _ = try checkpoint.readState(entries, ranges: [0..<count], values: values, first: first, second: second)
    let place = try #require(entries.first { $0.name == entry.name }).range
    for (name, moment) in [("moment1", first), ("moment2", second)] {
      let found = Tensor<Float>(try file.shape(of: "optimizer.\(name).visual.proj"))
      try file.read("optimizer.\(name).visual.proj", into: found)
      #expect(found.array == moment.slice(place).array && found.array.contains { $0 != 0 })
    }
    #expect(try await figures(path, ranks: nil) == figures(source, ranks: nil))
  }

  /// A run resumes from any number of parts, with the same bits as without the interruption.
  @Test func reshards() async throws {
    let every = "checkpoint.every=4"
    let straight = try await scene.train("straight", [every], ranks: 2)
    for (count, ranks) in [(1, nil), (3, 2), (5, 3)] {
      let folder = try await merged(
        [scene.checkpoint("straight", 4).path, "--reshard", "\(count)"], to: "parts\(count)", ranks: ranks)
      let checkpoint = try Checkpoint.open(folder)
      #expect(checkpoint.manifest.parts.count == count && checkpoint.manifest.ranks == 2)
      let name = "from\(count)"
      let run = try await scene.run(["name=\(name)", every], ["--resume", folder], ranks: 2)
      #expect(run.status == 0 && !run.output.contains("will not give the same bits"), "\(run)")
      #expect(try scene.losses(name) == Array(straight.dropFirst(4)))
      #expect(try scene.parts(name, 10) == scene.parts("straight", 10))
    }
  }

  @Test func otherModelsAreRefusedWithAList() async throws {
    try await scene.train("one", ["steps=1"], ranks: 2)
    try await scene.train("two", ["steps=1", "model.embed_dim=24", "image.mean=[0.5, 0.5, 0.5]"], ranks: 2)
    try await scene.train("three", ["steps=1", "model.text_cfg.layers=1"], ranks: nil)
    let folders = ["one", "two", "three"].map { scene.runFolder($0).path }
    let run = try await merge(folders + ["--average", "-o", scene.folder.path("mean.h5")], ranks: 2)
    #expect(run.status == 65, "\(run)")
    for words in [
      "two/checkpoints/step-00000001: parameter visual.proj has the shape [32, 24], expected [32, 16]",
      "two/checkpoints/step-00000001: the model's embed_dim is 24, not 16",
      "two/checkpoints/step-00000001: its images are prepared in another way",
      "three/checkpoints/step-00000001: parameter transformer.resblocks.1.ln_1.bias [32] is missing",
      "three/checkpoints/step-00000001: the model's text_cfg.layers is 1, not 2",
    ] {
      #expect(run.errors.contains(words), "“\(words)” is not in \(run)")
    }
    #expect(!FileManager.default.fileExists(atPath: scene.folder.path("mean.h5")))
  }
}
