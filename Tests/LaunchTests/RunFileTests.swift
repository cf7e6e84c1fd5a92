import Foundation
import Model
import Settings
import Tensor
import TestSupport
import Testing

@testable import Launch

@Suite struct RunFileTests {
  /// The least that a run file must say.
  static let least = """
    name: tiny
    model: ViT-T-16
    data: {datasets: [a/index.json]}
    vocabulary: words.txt.gz
    steps: 10
    """

  static func decode(_ text: String, set: [String] = []) throws(RunFileError) -> RunConfig {
    try RunConfig.decode(text, file: "run.yaml", overrides: set)
  }

  @Test func whatIsLeftOutHasItsDefault() throws {
    var expected = RunConfig()
    expected.name = "tiny"
    expected.model.preset = "ViT-T-16"
    expected.data.datasets = [DatasetConfig(path: "a/index.json")]
    expected.vocabulary = "words.txt.gz"
    expected.steps = 10
    #expect(try Self.decode(Self.least) == expected)
  }

  @Test func theExampleShowsEveryKeyWithItsDefault() throws {
    let file = Self.recipes.appending(path: "example.yaml")
    let text = try String(contentsOf: file, encoding: .utf8)
    let example = try RunConfig.load(file.path)
    var expected = RunConfig()
    expected.name = "example"
    expected.model.preset = "ViT-T-16"
    expected.data.datasets = [DatasetConfig(path: "data/example")]
    expected.vocabulary = "data/vocabulary/bpe_simple_vocab_16e6.txt.gz"
    expected.epochs = 32
    #expect(example == expected)
    // Every key that is written out stands in the file too, with the same value.
    let node = try RunNode.parse(text) { .file("example", line: $0, column: $1) }
    #expect(Self.leaves(node.tree) == Self.leaves(example.tree))
  }

  private static let recipes = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "scripts/recipes", directoryHint: .isDirectory)

  @Test func everyRecipeIsARun() throws {
    let files = try FileManager.default.contentsOfDirectory(at: Self.recipes, includingPropertiesForKeys: nil)
      .filter { $0.pathExtension == "yaml" }
    #expect(files.count >= 3)
    for file in files {
      let run = try RunConfig.load(file.path)
      #expect(run.name == file.deletingPathExtension().lastPathComponent)
      if run.model.file == nil { _ = try run.model.resolved() }
    }
  }

  /// Path and value of everything in a tree, without regard to order and quotes.
  static func leaves(_ tree: RunTree, _ path: String = "") -> Set<String> {
    switch tree {
    case .scalar(let text, _): return ["\(path)=\(text)"]
    case .list(let values):
      return values.enumerated().reduce(into: ["\(path)[\(values.count)]"]) {
        $0.formUnion(leaves($1.element, "\(path).\($1.offset)"))
      }
    case .section(let entries):
      return entries.reduce(into: []) { $0.formUnion(leaves($1.value, "\(path).\($1.key)")) }
    }
  }

  static let full = """
    name: "12"
    output: "out folder/öä: #1"
    seed: 18446744073709551615
    model:
      embed_dim: 64
      vision_cfg: {image_size: 32, patch_size: 8, width: 64, layers: 2, head_width: 32, mlp_ratio: 2.5,
        patch_dropout: 0.25}
      text_cfg: {context_length: 16, vocab_size: 0, width: 64, heads: 2, layers: 3}
      quick_gelu: true
    data:
      datasets:
        - one.json
        - {path: "two\\tlines\\n", weight: 0.25}
      seed: 7
      views: 3
      workers: 5
      prefetch: 4
      wrap: true
      captions: first
      verify: sizes
    vocabulary: 'it''s'
    image:
      scale: [0.5, 0.75]
      ratio: [1, 1]
      alpha: drop
      exif: apply
      mean: [0, 0.5, 1]
      std: [1, 2e-1, .5]
      color_jitter: {brightness: 0.32, contrast: 0.33, saturation: 0.34, hue: 0.08, probability: 0.8}
      grayscale: 0.2
      scaled_dct: true
      max_pixels: 1_000_000
    batch: {global: 96, micro_batch_size: 8}
    epochs: 2
    optimizer: {learning_rate: 1e-3, weight_decay: 0, betas: [0.8, 0.9], eps: 1e-7, warmup: 1_000, schedule: constant,
                clip_norm: 1, decay: current, head_decay: 0, layer_decay: 0.75,
                groups: [{match: visual., lr_scale: 0.1}, {match: text, weight_decay: 0}]}
    log: {every: 1}
    checkpoint: {every: 5, keep: all}
    evaluate:
      every: 50
      evaluations:
        - {kind: retrieval, dataset: val.json}
        - {kind: zero-shot, dataset: val.json, classes: "no", templates: t.txt, subset: s.txt}
        - {kind: retrieval, dataset: coco, captions: first, duplicates: strict}
    non_finite: {policy: rewind, limit: 2}
    watchdog: {deadline: 2.5}
    """

  @Test func everyKeyIsRead() throws {
    let run = try Self.decode(Self.full)
    #expect(run.name == "12")
    #expect(run.output == "out folder/öä: #1")
    #expect(run.seed == .max)
    let model = try run.model.resolved()
    #expect(model.embedding == 64 && model.vision.mlpRatio == 2.5 && model.vision.headWidth == 32)
    #expect(model.vision.patchDropout == 0.25)
    #expect(model.text.layers == 3 && model.activation == .quickGELU)
    #expect(run.data.datasets.map(\.path) == ["one.json", "two\tlines\n"])
    #expect(run.data.datasets.map(\.weight) == [1, 0.25])
    #expect(run.data.seed == 7 && run.data.views == 3 && run.data.workers == 5 && run.data.prefetch == 4)
    #expect(run.data.wrap && run.data.captions == .first && run.data.verify == .sizes)
    #expect(run.vocabulary == "it's")
    #expect(run.image.scale == 0.5...0.75 && run.image.alpha == .drop && run.image.exif == .apply)
    #expect(run.image.std == [1, 0.2, 0.5] && run.image.colorJitter.hue == 0.08 && run.image.grayscale == 0.2)
    #expect(run.image.scaledDCT && run.image.maxPixels == 1_000_000)
    #expect(run.batch.global == 96 && run.batch.microBatchSize == 8 && run.steps == nil && run.epochs == 2)
    #expect(run.optimizer.learningRate == 1e-3 && run.optimizer.betas == [0.8, 0.9] && run.optimizer.warmup == 1000)
    #expect(run.optimizer.clipNorm == 1 && run.optimizer.decay == .current && run.optimizer.schedule == .constant)
    #expect(run.optimizer.headDecay == 0 && run.optimizer.layerDecay == LayerDecay(image: 0.75, text: 0.75))
    #expect(
      run.optimizer.groups == [
        ParameterGroup(match: "visual.", scale: 0.1), ParameterGroup(match: "text", decay: 0),
      ])
    #expect(run.checkpoint.keep == nil && run.evaluate.every == 50)
    #expect(run.evaluate.evaluations.map(\.kind) == [.retrieval, .zeroShot, .retrieval])
    #expect(run.evaluate.evaluations.map(\.captions) == [nil, nil, .first])
    #expect(run.evaluate.evaluations.map(\.duplicates) == [nil, nil, .strict])
    #expect(run.evaluate.evaluations[1].classes == "no")
  }

  private static let resNet = least.replacing(
    "model: ViT-T-16",
    with: """
      model:
        sync_bn: true
        embed_dim: 24
        vision_cfg: {image_size: 64, layers: [1, 2, 3, 1], width: 8, head_width: 32}
        text_cfg: {context_length: 16, vocab_size: 0, width: 64, heads: 2, layers: 3}
      """)

  @Test func aListOfLayersIsAResNet() throws {
    let model = try Self.decode(Self.resNet).model
    #expect(
      model.syncBatchNorm && model.vision == VisionConfig(imageSize: 64, stages: [1, 2, 3, 1], width: 8, headWidth: 32))
    #expect(try model.resolved().vision.heads == 8)
  }

  @Test(arguments: [least, full, resNet]) func theResolvedRunReadsBackEqual(text: String) throws {
    let run = try Self.decode(text)
    let again = try Self.decode(run.yaml)
    #expect(again == run)
    #expect(again.yaml == run.yaml)
  }

  /// The resolved run has every option of images with the digits that were given, some of which a Float loses.
  @Test func imagesInTheResolvedRun() throws {
    let run = try Self.decode(Self.least, set: ["image.mean=[0.123456789, 0.5, 1]", "image.color_jitter.hue=0.05"])
    let expected = """

      image:
        crop: random
        scale: [0.9, 1.0]
        ratio: [0.75, 1.3333333333333333]
        interpolation: bicubic
        alpha: white
        exif: ignore
        mean: [0.123456789, 0.5, 1.0]
        std: [0.26862954, 0.26130258, 0.27577711]
        color_jitter:
          brightness: 0.0
          contrast: 0.0
          saturation: 0.0
          hue: 0.05
          probability: 0.0
        grayscale: 0.0
        scaled_dct: false
        max_pixels: 50000000
      batch:

      """
    #expect(run.yaml.contains(expected), "\(run.yaml)")
    #expect(run.image.mean.dropFirst() == [0.5, 1] && run.image.sized(64).size == 64)
  }

  /// What was renamed is read by its old name, and written by its new one.
  @Test func oldNamesAreRead() throws {
    let old = try Self.decode(
      """
      name: tiny
      model: ViT-T-16
      data: {corpora: [a/index.json]}
      vocabulary: words.txt.gz
      steps: 10
      batch: {micro: 8, recompute: cheap}
      optimizer: {rate: 1e-3}
      objective: standard
      teacher: {model: a, micro: 4, placement: spread, spread_over: 2}
      evaluate: {evaluations: [{kind: retrieval, corpus: b}]}
      """, set: ["optimizer.rate=2e-3"])
    let new = try Self.decode(
      """
      name: tiny
      model: ViT-T-16
      data: {datasets: [a/index.json]}
      vocabulary: words.txt.gz
      steps: 10
      batch: {micro_batch_size: 8, activation_checkpointing: cheap}
      optimizer: {learning_rate: 2e-3}
      objective: standard
      teacher: {model: a, micro_batch_size: 4, placement: sharded, shard_over: 2}
      evaluate: {evaluations: [{kind: retrieval, dataset: b}]}
      """)
    #expect(old == new && old.yaml == new.yaml)
    let twice = #expect(throws: RunFileError.self) {
      try Self.decode(Self.least + "\noptimizer: {rate: 1, learning_rate: 2}")
    }
    #expect(
      twice?.description
        == "run.yaml:6:13: optimizer.learning_rate is given twice, once by its old name rate; keep learning_rate")
  }

  @Test func defaultsByKindOfVisionTower() throws {
    let optimizer = try Self.decode(Self.least).optimizer
    #expect(optimizer.resolved(visionTransformer: true, objective: .clip).betas == [0.9, 0.98])
    #expect(optimizer.resolved(visionTransformer: true, objective: .clip).eps == 1e-6)
    #expect(optimizer.resolved(visionTransformer: false, objective: .clip).betas == [0.9, 0.999])
    #expect(optimizer.resolved(visionTransformer: false, objective: .clip).eps == 1e-8)
    #expect(optimizer.resolved(visionTransformer: true, objective: .standard).headDecay == nil)
    #expect(optimizer.resolved(visionTransformer: true, objective: .clipKD).headDecay == 0.01)
    let given = try Self.decode(Self.full).optimizer
    #expect(given.resolved(visionTransformer: false, objective: .clip) == given)
  }

  @Test func anchorsStandForTheirValue() throws {
    let run = try Self.decode(
      Self.least + "\nimage: {mean: &half [0.5, 0.5, 0.5], std: *half}\noptimizer: # all commented out\n")
    #expect(run.image.mean == [0.5, 0.5, 0.5] && run.image.std == [0.5, 0.5, 0.5])
    #expect(run.optimizer == OptimizerConfig())
  }

  @Test func overridesReplaceAndAdd() throws {
    let run = try Self.decode(
      Self.full,
      set: [
        "optimizer.learning_rate=2e-4", "optimizer.learning_rate=3e-4", "data.datasets.1.weight=9",
        "data.datasets.0=three.json",
        "model={preset: ViT-B-32}", "checkpoint.keep=2", "evaluate={}", "epochs=none", "steps=4", "name=a=b",
      ])
    #expect(run.optimizer.learningRate == 3e-4 && run.data.datasets.map(\.weight) == [1, 9])
    #expect(run.data.datasets[0].path == "three.json" && run.model.preset == "ViT-B-32" && run.model.vision == nil)
    #expect(run.checkpoint.keep == 2 && run.evaluate == EvaluateConfig() && run.epochs == nil && run.steps == 4)
    #expect(run.name == "a=b")
    #expect(try Self.decode(Self.least, set: ["optimizer.warmup=5"]).optimizer.warmup == 5)
  }

  @Test func theHomeFolderIsWrittenAsInAShell() throws {
    let home = try #require(ProcessInfo.processInfo.environment["HOME"])
    let run = try Self.decode(
      Self.least.replacing("a/index.json", with: "~/a"),
      set: ["output=~/b", "model=~/c.json", "teacher=~/d", "vocabulary=~e/f", "init.from=/~/g"])
    #expect(run.data.datasets[0].path == "\(home)/a" && run.output == "\(home)/b" && run.model.file == "\(home)/c.json")
    #expect(run.teacher?.model == "\(home)/d" && run.vocabulary == "~e/f" && run.start.from == "/~/g")
  }

  @Test func aByteOrderMarkIsSkipped() throws {
    let folder = try TemporaryFolder()
    try folder.write("base.yaml", ("\u{FEFF}" + Self.least).utf8)
    let file = try folder.write("run.yaml", "\u{FEFF}base: base.yaml\r\nname: marked\r\n".utf8)
    let run = try RunConfig.load(file)
    #expect(run.name == "marked" && run.steps == 10)
  }

  @Test func oneDatasetNeedsNoBrackets() throws {
    let rest = "name: tiny\nmodel: ViT-T-16\nvocabulary: words.txt.gz\nsteps: 10\n"
    for data in ["{datasets: a}", "{datasets: [a]}", "{datasets: {path: a}}", "{corpora: a}"] {
      #expect(try Self.decode(rest + "data: \(data)").data.datasets == [DatasetConfig(path: "a")], "\(data)")
    }
    let changed = try Self.decode(rest + "data: {datasets: a}", set: ["data.datasets.0.weight=2"])
    #expect(changed.data.datasets == [DatasetConfig(path: "a", weight: 2)])
    #expect(try Self.decode(Self.full, set: ["data.datasets=b"]).data.datasets == [DatasetConfig(path: "b")])
    #expect(throws: RunFileError.self) { try Self.decode(rest + "data: {datasets: }") }
  }

  @Test func warnsOfAWarmupThatNeverEnds() throws {
    let run = try Self.decode(Self.least)
    #expect(
      run.warnings(totalSteps: 10) == [
        "optimizer.warmup (10000 steps) does not end within the run (10 steps):"
          + " the rate never reaches optimizer.learning_rate; lower optimizer.warmup"
      ])
    #expect(run.warnings(totalSteps: 10_001) == [])
  }
}
