import Dist
import Foundation
import Model
import ONNXFormat
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Graphs of ONNX as files: their structure, weights and places. `ONNXValuesTests` has what they compute, and
/// `scripts/check-onnx` what onnxruntime computes with them.
@Suite struct ONNXExportTests {
  let scene = ONNXScene()

  @Test(arguments: [ONNXScene.transformer, ONNXScene.resNet, ONNXScene.pruned], ONNXNumbers.allCases)
  func isOneGraphOfNodesInOrder(_ sizes: String, _ numbers: ONNXNumbers) throws {
    let model = try ONNXScene.model(sizes)
    let (visual, textual) = try scene.export(model, numbers, to: "out")
    for found in [visual, textual] {
      #expect(found.model.irVersion == 8 && found.model.producerName == "kinship")
      #expect(found.model.opsetImport.map(\.version) == [17] && found.model.opsetImport.map(\.domain) == [""])
      try found.requireOrder()
    }
    let size = "\(model.config.vision.imageSize)"
    let (images, ids) = (visual.model.graph.input, textual.model.graph.input)
    #expect(images.map(\.name) == ["pixel_values"] && ids.map(\.name) == ["input_ids"])
    #expect(images.map(ONNXFound.shape) == [["batch", "3", size, size]])
    #expect(ids.map(ONNXFound.shape) == [["batch", "sequence"]])
    #expect(images[0].type.tensorType.elemType == 1 && ids[0].type.tensorType.elemType == 7)
    for (found, name) in [(visual, "image_embeds"), (textual, "text_embeds")] {
      #expect(found.model.graph.output.map(\.name) == [name])
      #expect(found.model.graph.output.map(ONNXFound.shape) == [["batch", "6"]])
      #expect(found.model.graph.output.allSatisfy { $0.type.tensorType.elemType == 1 })
      #expect(found.operations.last == "Div" && found.operations.contains("ReduceL2"))
    }
    #expect(textual.operations.contains("ArgMax") && textual.operations.contains("GatherND"))
    let products = visual.operations.filter { $0 == "MatMulInteger" }.count
    #expect((products > 0) == (numbers == .int8), "\(visual.operations)")
    let convolutions = visual.operations.filter { $0 == "Conv" }.count
    // A stem of three, five blocks of three, and the shortcuts of the first blocks of the stages.
    #expect(convolutions == (sizes == ONNXScene.resNet ? 3 + 5 * 3 + 4 : 1))
  }

  @Test func weightsAreTheModels() throws {
    let model = try ONNXScene.model(ONNXScene.transformer)
    let weights = NamedWeights(model)
    let (visual, textual) = try scene.export(model, to: "out")
    #expect(try visual.floats("visual.conv1.weight") == weights["visual.conv1.weight"].array)
    #expect(try visual.sizes("visual.conv1.weight") == [8, 3, 8, 8])
    #expect(try textual.floats("token_embedding.weight") == weights["token_embedding.weight"].array)
    #expect(try textual.floats("text_projection") == weights["text_projection"].array)
    let name = "transformer.resblocks.0.mlp.c_fc.weight"
    let rows = weights[name]
    #expect(try textual.sizes("\(name).T") == [4, 16])
    #expect(
      try textual.floats("\(name).T") == (0..<4).flatMap { column in (0..<16).map { rows[$0 * 4 + column] } })
    // Of the last block only one row has a query, so its projection comes in two parts.
    let all = weights["transformer.resblocks.1.attn.in_proj_weight"]
    for (part, range) in [("[0:4]", 0..<4), ("[4:12]", 4..<12)] {
      #expect(
        try textual.floats("transformer.resblocks.1.attn.in_proj_weight\(part).T")
          == (0..<4).flatMap { column in range.map { all[$0 * 4 + column] } })
      #expect(
        try textual.floats("transformer.resblocks.1.attn.in_proj_bias\(part)")
          == Array(weights["transformer.resblocks.1.attn.in_proj_bias"].array[range]))
    }
    // QuickGELU's slope, and no GELU.
    let slope = "float_\(String(Float(1.702).bitPattern, radix: 16))"
    #expect(try visual.floats(slope) == [1.702])
    #expect(visual.operations.contains("Sigmoid") && !visual.operations.contains("Erf"))
    #expect(try scene.export(ONNXScene.model(ONNXScene.pruned), to: "pruned").visual.operations.contains("Erf"))
  }

  @Test func metadataHasTheFactorOfCosines() throws {
    let model = try ONNXScene.model(ONNXScene.transformer)
    let (visual, textual) = try scene.export(model, .fp16, to: "out")
    let bias = NamedWeights(model)[CLIPConfig.logitBias][0]
    for found in [visual, textual] {
      let scale = try #require(found.metadata["logit_scale"].flatMap { Float($0) })
      #expect(abs(scale - exp(model.logitScale.value[0])) <= 1e-6 * scale)
      #expect(found.metadata["logit_bias"] == "\(bias)" && found.metadata["type"] == "fp16")
    }
    #expect(textual.metadata["context_length"] == "5" && visual.metadata["context_length"] == nil)
    let without = try scene.export(ONNXScene.model(ONNXScene.resNet), to: "without").visual
    #expect(without.metadata["logit_bias"] == nil && without.metadata["type"] == "fp32")
  }

  @Test(arguments: ONNXNumbers.allCases)
  func equalModelsGiveEqualBytes(_ numbers: ONNXNumbers) throws {
    let most = ONNXFile.mostEmbedded
    for (name, limit) in [("one", most), ("other", most), ("apart", 0), ("again", 0)] {
      _ = try scene.export(ONNXScene.model(ONNXScene.transformer), numbers, mostEmbedded: limit, to: name)
    }
    for (one, other) in [("one", "other"), ("apart", "again")] {
      let names = try FileManager.default.contentsOfDirectory(atPath: scene.folder.path(one)).sorted()
      #expect(names == (try FileManager.default.contentsOfDirectory(atPath: scene.folder.path(other)).sorted()))
      #expect(names.count == (one == "one" ? 2 : 4))
      for name in names {
        let files = try [one, other].map { try Data(contentsOf: URL(filePath: scene.folder.path("\($0)/\(name)"))) }
        #expect(files[0] == files[1], "\(name)")
      }
    }
  }

  @Test func manyWeightsLieInAFileOfTheirOwn() throws {
    let model = try ONNXScene.model(ONNXScene.transformer)
    let (whole, _) = try scene.export(model, to: "whole")
    let (apart, _) = try scene.export(model, mostEmbedded: 0, to: "apart")
    #expect(whole.data == nil && apart.data != nil)
    #expect(apart.operations == whole.operations)
    var end = 0
    for tensor in apart.model.graph.initializer {
      let bytes = try whole.bytes(tensor.name)
      #expect(try apart.bytes(tensor.name) == bytes, "\(tensor.name)")
      #expect((tensor.dataLocation == .external) == (bytes.count >= 1024), "\(tensor.name)")
      guard tensor.dataLocation == .external else { continue }
      let place = Dictionary(uniqueKeysWithValues: tensor.externalData.map { ($0.key, $0.value) })
      let start = try #require(place["offset"].flatMap { Int($0) })
      #expect(place["location"] == "visual.onnx.data" && start % 4096 == 0 && start >= end)
      end = start + bytes.count
    }
    #expect(apart.data?.count == end && end > 0)
  }

  /// The command: its files, its options, and what it refuses.
  @Test func theCommandWritesACompleteFolder() async throws {
    let train = try await TrainScene()
    try await train.train("tiny", ["steps=1"], ranks: nil)
    let output = train.folder.path("out")
    func export(_ arguments: [String], status: Int = 0) async throws -> MPIRun {
      let run = try await MPIRun.kinship(
        ["weights", "export", train.runFolder("tiny").path] + arguments, ranks: nil)
      #expect(run.status == status, "\(run)")
      return run
    }
    let run = try await export(["--form", "onnx", "--type", "int8", "-o", output])
    let names = [
      ModelCard.file, HuggingFaceFiles.preprocessor, ONNXExport.text, HuggingFaceFiles.tokenizer,
      HuggingFaceFiles.tokenizerConfig, ONNXExport.image,
    ]
    #expect(try FileManager.default.contentsOfDirectory(atPath: output).sorted() == names.sorted(), "\(run)")
    let found = try ONNXFound(URL(filePath: "\(output)/\(ONNXExport.text)"))
    #expect(found.metadata["type"] == "int8" && found.metadata["context_length"] == "8")
    let card = try String(contentsOfFile: "\(output)/\(ModelCard.file)", encoding: .utf8)
    for words in ["library_name: onnx\n", "InferenceSession(\"FOLDER/visual.onnx\")", "[batch, 3, 16, 16]"] {
      #expect(card.contains(words), "\(words) in \(card)")
    }
    #expect(!card.contains("open_clip.create"), "\(card)")

    let twice = try await export(["--form", "onnx", "-o", output], status: 64)
    #expect(twice.errors.contains("is there already"), "\(twice)")
    let alone = try await export(["--type", "fp16", "-o", train.folder.path("no")], status: 64)
    #expect(alone.errors.contains("--type belongs to --form onnx"), "\(alone)")
    let other = try await export(["--form", "onnx", "--type", "int4", "-o", train.folder.path("no")], status: 64)
    #expect(other.errors.contains("int4"), "\(other)")
  }

  /// What a form cannot hold is refused by name before the folder is made.
  @Test func refusesWhatItCannotHold() async throws {
    let model = try ONNXScene.model(ONNXScene.transformer)
    let weight = NamedWeights(model)["visual.proj"]
    weight[3] = 70_000
    var image = ImageOptions()
    image.size = 16
    image.resize.mode = .longest
    let own = scene.folder.url.appending(path: "own", directoryHint: .isDirectory)
    try FileManager.default.createDirectory(at: own, withIntermediateDirectories: true)
    try ModelFiles.write(model, preprocessing: image, to: own)
    func export(_ type: String, status: Int) async throws -> MPIRun {
      let run = try await MPIRun.kinship(
        ["weights", "export", own.path, "--form", "onnx", "--type", type, "-o", scene.folder.path(type)], ranks: nil)
      #expect(run.status == status, "\(run)")
      return run
    }
    let refused = try await export("fp16", status: 65)
    #expect(refused.errors.contains("visual.proj holds 70000.0"), "\(refused)")
    #expect(refused.errors.contains("--type fp32"), "\(refused)")
    #expect(!FileManager.default.fileExists(atPath: scene.folder.path("fp16")))
    // Neither processor nor tokenizer: the command says why, and writes the rest.
    let written = try await export("fp32", status: 0)
    #expect(written.output.contains("without preprocessor_config.json: resize_mode is longest"), "\(written)")
    #expect(written.output.contains("without tokenizer.json"), "\(written)")
  }

  /// A tensor with numbers that are not finite is refused in every form, by its name and how many they are.
  @Test(arguments: ONNXNumbers.allCases) func refusesNumbersThatAreNotFinite(_ numbers: ONNXNumbers) throws {
    let model = try ONNXScene.model(ONNXScene.transformer)
    _ = try ONNXExport(model, numbers)
    for (name, places, found) in [
      ("visual.proj", [3, 5], "2 of 48, the first is nan"), ("ln_final.bias", [1], "1 of 4, the first is inf"),
      ("transformer.resblocks.0.mlp.c_fc.weight", [7], "1 of 64, the first is inf"),
      ("logit_scale", [0], "1 of 1, the first is inf"),
    ] {
      let weight = NamedWeights(model)[name]
      let before = weight.array
      for place in places { weight[place] = places.count > 1 ? .nan : .infinity }
      let error = #expect(throws: UserError.self) { try ONNXExport(model, numbers) }
      let words = error?.description ?? ""
      #expect(error?.status == .notFinite && words.hasPrefix(name) && words.contains(found), "\(words)")
      for place in places { weight[place] = before[place] }
    }
  }
}
