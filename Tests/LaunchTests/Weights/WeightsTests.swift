import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Weights through the program: in from every form, out to both, and back, to the bit.
@Suite struct WeightsTests {
  let folder = try! TemporaryFolder()

  private static let sizes = """
    {"embed_dim": 6, "quick_gelu": true,
     "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 8, "layers": 1, "head_width": 4},
     "text_cfg": {"context_length": 5, "vocab_size": 9, "width": 4, "heads": 2, "layers": 2}}
    """
  private static let resNet = """
    {"embed_dim": 6, "vision_cfg": {"image_size": 32, "width": 2, "layers": [1, 1, 1, 1], "head_width": 16},
     "text_cfg": {"context_length": 5, "vocab_size": 9, "width": 4, "heads": 2, "layers": 1}}
    """

  /// A model with numbers of its own in every place, buffers too.
  private func model(_ json: String) throws -> CLIP<Float> {
    let model = CLIP<Float>(try CLIPConfig(json: Data(json.utf8)), frozen: true)
    for entry in model.entries { copy(.random(entry.shape, entry.name), into: model.parameters.value(of: entry)) }
    for (index, buffer) in model.parameters.buffers.enumerated() {
      fill(model.parameters.value(of: buffer), Double(index))
    }
    return model
  }

  private func torch(
    _ model: CLIP<Float>, _ naming: (String) -> String = { $0 }
  ) -> [TorchArchive.Tensor] {
    model.entries.map { .init(naming($0.name), $0.shape.array, model.parameters.value(of: $0).array) }
      + model.parameters.buffers.map { buffer in
        let values = model.parameters.value(of: buffer).array
        return buffer.isCount
          ? .init(naming(buffer.name), buffer.shape.array, integers: values.map { Int64($0) })
          : .init(naming(buffer.name), buffer.shape.array, values.map { Float($0) })
      }
  }

  @discardableResult
  private func run(_ arguments: [String], ranks: Int? = nil, status: Int = 0) async throws -> MPIRun {
    let run = try await MPIRun.kinship(["weights"] + arguments, ranks: ranks)
    #expect(run.status == status, "\(run)")
    return run
  }

  private func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(filePath: folder.path(path))) }

  private func expectEqual(_ one: String, _ other: String) throws {
    for file in [ModelFiles.weights, ModelFiles.config] {
      #expect(try bytes("\(one)/\(file)") == bytes("\(other)/\(file)"), "\(file) of \(one) and \(other)")
    }
  }

  @Test func everyWayRoundIsEqualToTheBit() async throws {
    let model = try model(Self.sizes)
    try FileManager.default.createDirectory(atPath: folder.path("own"), withIntermediateDirectories: true)
    var image = ImageOptions()
    image.size = 16
    image.mean = [0.1, 0.2, 0.3]
    try ModelFiles.write(model, preprocessing: image, to: URL(filePath: folder.path("own")))

    // PyTorch's files say nothing of images; their config does.
    let config = ["--config", folder.path("own/\(ModelFiles.config)")]
    try folder.write("a/bare.pt", TorchArchive.checkpoint(torch(model)))
    try folder.write(
      "a/training.bin", TorchArchive.checkpoint(torch(model) { "module.\($0)" }, training: true, wide: true))
    for name in ["bare.pt", "training.bin"] {
      try await run(["import", folder.path("a/\(name)"), "--output", folder.path("from \(name)")] + config)
      try expectEqual("from \(name)", "own")
    }

    let export = try await run(
      ["export", folder.path("own"), "--form", "hugging_face", "-o", folder.path("hf")], ranks: 2)
    #expect(export.output.contains("quick_gelu; \(model.parameters.parameterCount) parameters"), "\(export)")
    try await run(["import", folder.path("hf"), "-o", folder.path("back")])
    try expectEqual("back", "own")
    try await run(["export", folder.path("hf/model.safetensors"), "-o", folder.path("out")])
    try expectEqual("out", "own")

    // The same in two files with an index, as Hugging Face keeps large models.
    let single = try SafetensorsFile(folder.path("hf/model.safetensors"))
    try FileManager.default.createDirectory(atPath: folder.path("shards"), withIntermediateDirectories: true)
    try FileManager.default.copyItem(atPath: folder.path("hf/config.json"), toPath: folder.path("shards/config.json"))
    try FileManager.default.copyItem(
      atPath: folder.path("hf/preprocessor_config.json"), toPath: folder.path("shards/preprocessor_config.json"))
    var places: [String: String] = [:]
    for (index, names) in [single.names.prefix(7), single.names.dropFirst(7)].enumerated() {
      let file = "model-0000\(index + 1)-of-00002.safetensors"
      try SafetensorsFile.write(
        names.map { SafetensorsEntry($0, try single.tensor($0, as: Float.self)) }, metadata: single.metadata,
        to: folder.path("shards/\(file)"))
      for name in names { places[name] = file }
    }
    try folder.write(
      "shards/model.safetensors.index.json", try JSONEncoder().encode(["weight_map": places]))
    try await run(["import", folder.path("shards"), "-o", folder.path("from shards")])
    try expectEqual("from shards", "own")

    // Queries, keys and values, and a projection's other side.
    let theirs = try SafetensorsFile(folder.path("hf/model.safetensors"))
    let packed = Tensor<Float>.random(Shape(24, 8), "visual.transformer.resblocks.0.attn.in_proj_weight")
    let keys: Tensor<Float> = try theirs.tensor("vision_model.encoder.layers.0.self_attn.k_proj.weight")
    #expect(keys.shape == Shape(8, 8) && keys.array == packed.rows(8..<16).array)
    let projection: Tensor<Float> = try theirs.tensor("text_projection.weight")
    #expect(projection.shape == Shape(6, 4))
    #expect(projection[4 * 5 + 1] == Tensor<Float>.random(Shape(4, 6), "text_projection")[6 * 1 + 5])
    #expect(theirs.contains("vision_model.pre_layrnorm.bias"))

    let again = try await run(["import", folder.path("hf"), "-o", folder.path("back")], status: 64)
    #expect(again.errors.contains("is there already"), "\(again)")
  }

  @Test func readsPartsOfEveryForm() async throws {
    let model = try model(Self.sizes)
    try FileManager.default.createDirectory(atPath: folder.path("own"), withIntermediateDirectories: true)
    try ModelFiles.write(model, preprocessing: ImageOptions(), to: URL(filePath: folder.path("own")))
    try await run(["export", folder.path("own"), "--form", "hugging_face", "-o", folder.path("hf")])
    let archive = try folder.write("a.pt", TorchArchive.checkpoint(torch(model)))
    let ranges = stride(from: 0, to: model.parameters.count, by: 37).map { $0..<min($0 + 37, model.parameters.count) }
    for path in [folder.path("own/\(ModelFiles.weights)"), folder.path("hf/model.safetensors"), archive] {
      let copy = CLIP<Float>(model.config, frozen: true)
      try ModelFiles.read(path, into: copy, ranges: ranges)
      #expect(copy.parameters.values.array == model.parameters.values.array, "\(path)")
    }
  }

  /// Names with what training programs put before or into them, in every form, and OpenAI's sizes beside the weights.
  @Test func readsNamesInWrappers() throws {
    let model = try model(Self.sizes)
    let namings: [(String) -> String] = [
      { "_orig_mod.\($0)" }, { "module._orig_mod.\($0)" }, { "_orig_mod.model.module.\($0)" },
      { $0.hasPrefix("visual.") || $0 == "logit_scale" ? "model.\($0)" : "model.text.\($0)" },
      { $0.replacing("visual.", with: "visual._orig_mod.") },
    ]
    for (index, naming) in namings.enumerated() {
      let sizes = ["input_resolution", "context_length", "vocab_size"].map(naming)
      let tensors = torch(model, naming) + sizes.map { TorchArchive.Tensor($0, [], integers: [9]) }
      var paths = [try folder.write("\(index).pt", TorchArchive.checkpoint(tensors, training: index > 2))]
      let entries =
        model.entries.map { SafetensorsEntry(naming($0.name), model.parameters.value(of: $0)) }
        + sizes.map { SafetensorsEntry($0, integers: [9], shape: Shape()) }
      paths.append(folder.path("\(index).safetensors"))
      try SafetensorsFile.write(entries, to: paths[1])
      var places: [String: String] = [:]
      for (part, share) in [entries.prefix(5), entries.dropFirst(5)].enumerated() {
        try SafetensorsFile.write(Array(share), to: folder.path("\(index)-\(part).safetensors"))
        for entry in share { places[entry.name] = "\(index)-\(part).safetensors" }
      }
      let parts = try JSONEncoder().encode(["weight_map": places])
      paths.append(try folder.write("\(index).safetensors.index.json", parts))
      for path in paths {
        let copy = CLIP<Float>(model.config, frozen: true)
        try ModelFiles.read(path, into: copy)
        #expect(copy.parameters.values.array == model.parameters.values.array, "\(path)")
        // The checksum is the same whether it is taken of the model's memory or of the file.
        #expect(try ModelFiles.sha256(path, readInto: copy) == SHA256.ofWeights(WeightsFile.open(path)), "\(path)")
      }
    }
  }

  /// open_clip says with `custom_text` that the names of the text tower begin with `text.`.
  @Test func readsACustomTextCLIP() throws {
    let model = try model(Self.sizes)
    try folder.write("open_clip_config.json", "{\"custom_text\": true, \(Self.sizes.dropFirst())".utf8)
    let tensors = torch(model) { $0.hasPrefix("visual.") || $0 == "logit_scale" ? $0 : "text.\($0)" }
    let path = try folder.write("custom.pt", TorchArchive.checkpoint(tensors))
    #expect(try ForeignModel(path).load().parameters.values.array == model.parameters.values.array)
  }

  /// Where names cannot be read, one line says so, not one for each tensor.
  @Test func namesThatCannotBeReadTakeOneLine() throws {
    let model = try model(Self.sizes)
    try folder.write("open_clip_config.json", Self.sizes.utf8)
    for (tensors, words) in [
      (torch(model) { "student.\($0)" }, "the names of its tensors begin with student.; save them without it"),
      (torch(model) + torch(model) { "module.\($0)" }, ", which are both "),
      ([.init("weight", [1], [1])], "tensors, such as "),
    ] as [([TorchArchive.Tensor], String)] {
      let path = try folder.write("names.pt", TorchArchive.checkpoint(tensors))
      let error = #expect(throws: UserError.self) { _ = try ForeignModel(path).load() }
      let text = error?.description ?? ""
      #expect(text.contains(words) && !text.contains("\n") && error?.status == .badData, "\(text)")
    }
  }

  /// One changed bit in a model that was exported is noticed by whatever reads it.
  @Test func aChangedBitIsRefused() async throws {
    let own = URL(filePath: folder.path("own"), directoryHint: .isDirectory)
    try FileManager.default.createDirectory(at: own, withIntermediateDirectories: true)
    let model = try model(Self.sizes)
    try ModelFiles.write(model, preprocessing: ImageOptions(), to: own)
    let path = own.appending(path: ModelFiles.weights).path
    #expect(try WeightsReport(path, config: nil, preset: nil).text.contains("whole: its SHA-256"))
    var bytes = try Data(contentsOf: URL(filePath: path))
    bytes[bytes.count - 3] ^= 1
    try bytes.write(to: URL(filePath: path))
    let copy = CLIP<Float>(model.config, frozen: true)
    for check in [
      { try ModelFiles.read(path, into: copy) }, { _ = try SHA256.ofWeights(WeightsFile.open(path)) },
      { _ = try ModelFiles.sha256(path, readInto: copy) }, { _ = try WeightsReport(path, config: nil, preset: nil) },
    ] as [() throws -> Void] {
      #expect(throws: SafetensorsError.self, performing: check)
    }
    let refused = try await run(["export", own.path, "-o", folder.path("b")], status: 65)
    #expect(refused.errors.contains("\(path): it was altered or is damaged"), "\(refused)")
  }

  @Test func aResNetKeepsItsStatistics() async throws {
    let model = try model(Self.resNet)
    try folder.write("a/model.pt", TorchArchive.checkpoint(torch(model)))
    try folder.write("a/open_clip_config.json", Self.resNet.utf8)
    try await run(["import", folder.path("a/model.pt"), "-o", folder.path("b")])
    let copy = CLIP<Float>(model.config, frozen: true)
    try ModelFiles.read(folder.path("b/\(ModelFiles.weights)"), into: copy)
    #expect(copy.parameters.values.array == model.parameters.values.array)
    #expect(copy.parameters.bufferValues.array == model.parameters.bufferValues.array)
    for form in ["hugging_face", "both"] {
      let refused = try await run(["export", folder.path("b"), "--form", form, "-o", folder.path("c")], status: 65)
      #expect(refused.errors.contains("\(folder.path("b")): its vision tower is a ResNet"), "\(refused)")
      #expect(refused.errors.contains("; write it with --form open_clip"), "\(refused)")
      #expect(!FileManager.default.fileExists(atPath: folder.path("c")))
    }
    let export = try await run(["export", folder.path("b"), "-o", folder.path("d")])
    #expect(export.output.contains("without Hugging Face's files: its vision tower is a ResNet"), "\(export)")
    try expectEqual("d", "b")
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path("d")).sorted()
    #expect(names == [ModelCard.file, ModelFiles.config, ModelFiles.weights])
    let size = try await run(
      ["import", folder.path("b"), "--image-size", "64", "-o", folder.path("c")], status: 65)
    #expect(size.errors.contains("only a transformer's positions can be resized"), "\(size)")
  }

  @Test func resizesPositions() async throws {
    let model = try model(Self.sizes)
    try folder.write("a/open_clip_pytorch_model.bin", TorchArchive.checkpoint(torch(model)))
    try folder.write("a/open_clip_config.json", Self.sizes.utf8)
    try await run(["import", folder.path("a"), "-o", folder.path("b"), "--image-size", "32"])
    let file = try SafetensorsFile(folder.path("b/\(ModelFiles.weights)"))
    let positions: Tensor<Float> = try file.tensor("visual.positional_embedding")
    #expect(positions.array == resizedPositions(.random(Shape(5, 8), "visual.positional_embedding"), to: 4).array)
    #expect(try ModelFiles.sizes(folder.path("b/\(ModelFiles.config)")).vision.imageSize == 32)
    #expect(
      (try file.tensor("visual.proj", as: Float.self)).array == Tensor<Float>.random(Shape(8, 6), "visual.proj").array)
  }

  @Test func listsEveryDifference() async throws {
    let model = try model(Self.sizes)
    var tensors = torch(model)
    tensors.removeAll { $0.name == "ln_final.bias" }
    tensors.removeAll { $0.name == "visual.proj" }
    tensors.append(.init("visual.proj", [6, 8], [Float](repeating: 0, count: 48)))
    tensors.append(.init("visual.head", [1], [1]))
    tensors.removeAll { $0.name == "visual.ln_pre.bias" }
    tensors.append(.init("visual.ln_pre.bias", [8], integers: [Int64](repeating: 1, count: 8)))
    try folder.write("a/x.pt", TorchArchive.checkpoint(tensors))
    try folder.write("a/open_clip_config.json", Self.sizes.utf8)
    let differences = [
      "missing: ln_final.bias [4]", "misshapen: visual.proj is [6, 8], the model's is [8, 6]",
      "unexpected: visual.head", "of another type: visual.ln_pre.bias holds I64",
    ]
    let refused = try await run(["import", folder.path("a/x.pt"), "-o", folder.path("b")], status: 65)
    let shown = try await run(["inspect", folder.path("a/x.pt")])
    for difference in differences {
      #expect(refused.errors.contains(difference), "\(refused)")
      #expect(shown.output.contains(difference), "\(shown)")
    }
    #expect(shown.output.contains("does not fit these sizes"), "\(shown)")
    #expect(shown.output.contains(/visual\.head +F32 +\[1\] +1\n/), "\(shown)")
    #expect(!FileManager.default.fileExists(atPath: folder.path("b")))
  }

  /// No shape tells one activation from the other, so our files say it.
  /// A config may say any sizes: they are compared with the weights before memory is taken for a model.
  @Test(arguments: [
    ("\"width\": 8", "\"width\": 131072", "misshapen: visual."),
    ("\"image_size\": 16", "\"image_size\": 4096", "misshapen: visual.positional_embedding"),
    ("\"context_length\": 5", "\"context_length\": 16777216", "misshapen: positional_embedding"),
    ("\"vocab_size\": 9", "\"vocab_size\": 16777216", "misshapen: token_embedding.weight"),
    ("\"layers\": 1", "\"layers\": 10000", "missing: visual.transformer.resblocks.9999."),
  ])
  func sizesFarFromTheWeights(size: String, other: String, words: String) throws {
    try FileManager.default.createDirectory(atPath: folder.path("own"), withIntermediateDirectories: true)
    var image = ImageOptions()
    image.size = 16
    try ModelFiles.write(model(Self.sizes), preprocessing: image, to: URL(filePath: folder.path("own")))
    try folder.write("own/\(ModelFiles.config)", Self.sizes.replacing(size, with: other).utf8)
    let error = #expect(throws: UserError.self) { _ = try ForeignModel(folder.path("own")).load() }
    #expect(error?.reason.contains("does not fit the model") == true && error?.reason.contains(words) == true)
  }

  @Test func refusesAnotherActivation() async throws {
    try FileManager.default.createDirectory(atPath: folder.path("own"), withIntermediateDirectories: true)
    try ModelFiles.write(try model(Self.sizes), preprocessing: ImageOptions(), to: URL(filePath: folder.path("own")))
    let other = try folder.write("gelu.json", Self.sizes.replacing("true", with: "false").utf8)
    let refused = try await run(
      ["import", folder.path("own"), "--config", other, "-o", folder.path("b")], status: 65)
    #expect(refused.errors.contains("activation: the weights are for quick_gelu, the model's is gelu"), "\(refused)")
    let preset = try await run(
      ["import", folder.path("own"), "--preset", "ViT-B-32-quickgelu", "-o", folder.path("b")], status: 65)
    #expect(preset.errors.contains("says other sizes; leave --preset out"), "\(preset)")
    let both = try await run(
      ["import", folder.path("own"), "--preset", "RN50", "--config", other, "-o", folder.path("b")], status: 64)
    #expect(both.errors.contains("leave one out"), "\(both)")
  }

  @Test func saysWhatIsMissing() async throws {
    let file = try folder.write("alone.pt", TorchArchive.checkpoint(torch(try model(Self.sizes))))
    let sizes = try await run(["import", file, "-o", folder.path("b")], status: 74)
    #expect(sizes.errors.contains("has no open_clip_config.json beside it"), "\(sizes)")
    #expect(try await run(["inspect", file]).output.contains("no sizes beside it"))
    let nothing = try await run(["import", folder.path(""), "-o", folder.path("b")], status: 74)
    #expect(nothing.errors.contains("holds none of open_clip_model.safetensors"), "\(nothing)")
    let none = try await run(["inspect", folder.path("none.pt")], status: 74)
    #expect(none.errors.contains("there is no such file"), "\(none)")
    let hostile = try folder.write(
      "evil.pt", TorchArchive.archive(Pickle.program(Pickle.call(Pickle.global("os", "system"), [Pickle.text("id")]))))
    let refused = try await run(["inspect", hostile], status: 65)
    #expect(refused.errors.contains("it asks for os.system, but only tensors can be read"), "\(refused)")
  }
}
