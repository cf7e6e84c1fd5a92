import Dist
import Foundation
import Settings
import TestSupport
import Testing

@testable import Launch

@Suite struct RunFileErrorTests {
  /// A wrong run file, overrides, and everything that must be said of them.
  struct Case: Sendable, CustomTestStringConvertible {
    var text: String
    var set: [String] = []
    var messages: [String]
    var testDescription: String { messages.first ?? text }
  }

  private static let least = RunFileTests.least

  static let typesAndKeys: [Case] = [
    Case(
      text: least + "\nseeed: 1",
      messages: [
        "run.yaml:6:1: unknown key \"seeed\" in the run file; did you mean \"seed\"? Known keys: name, output, seed,"
          + " model, init, freeze, prune, data, vocabulary, image, batch, steps, epochs, reduce, optimizer, ema,"
          + " objective, teacher, log, checkpoint, evaluate, non_finite, watchdog, precision"
      ]),
    Case(
      text: least + "\nprune: {sparsity: 1, start_sparsity: 2, step: 10, ramp: -1, learning_rate: 0}",
      messages: [
        "run.yaml:6:19: prune.sparsity: expected more than 0 and less than 1, found 1.0",
        "run.yaml:6:38: prune.start_sparsity: expected 0 to prune.sparsity (1.0), found 2.0",
        "run.yaml:6:47: prune.step: 10 is not before the run's end (10 steps); lower it, or raise steps",
        "run.yaml:6:57: prune.ramp: expected 0 steps or more, found -1",
        "run.yaml:6:76: prune.learning_rate: expected more than 0, found 0.0",
      ]),
    Case(
      text: least + "\noptimizer:\n  lr: 1",
      messages: [
        "run.yaml:7:3: unknown key \"lr\" in optimizer. Known keys: learning_rate, weight_decay, betas, eps, warmup,"
          + " schedule, clip_norm, decay, head_decay, groups, layer_decay"
      ]),
    Case(
      text: least + "\nlog: {every: 1}\nbatch: {global: 2, golbal: 3}",
      messages: [
        "run.yaml:7:20: unknown key \"golbal\" in batch; did you mean \"global\"? Known keys: global,"
          + " micro_batch_size, activation_checkpointing"
      ]),
    Case(
      text: least + "\nname: again",
      messages: ["run.yaml:1:1: key \"name\" given twice in one section; keep one"]),
    Case(
      text: """
        model: {preset: ViT-T-16, quick_gelu: yes}
        data:
          datasets: 7
          views: 1.5
          seed: -1
        vocabulary: 12
        steps: "10"
        image: {scale: 0.9, alpha: none, mean: [0, red, 0]}
        optimizer: {learning_rate: fast, clip_norm: no, betas: null, eps: .inf}
        log: []
        """,
      messages: [
        "run.yaml:1:1: name is missing: the run's name; its folder is output/name",
        "run.yaml:1:39: model.quick_gelu: expected true or false or auto, found the text \"yes\"",
        "run.yaml:3:13: data.datasets.0: expected text, found the number 7; write \"7\" if it is meant",
        "run.yaml:4:10: data.views: expected a whole number, found the number 1.5",
        "run.yaml:5:9: data.seed: expected a whole number from 0, found the number -1",
        "run.yaml:6:13: vocabulary: expected text, found the number 12; write \"12\" if it is meant",
        "run.yaml:7:8: steps: expected a whole number or none, found the text \"10\"",
        "run.yaml:8:16: image.scale: expected a list, found the number 0.9",
        "run.yaml:8:28: image.alpha: expected white or drop, found the text \"none\"",
        "run.yaml:8:44: image.mean.1: expected a number, found the text \"red\"",
        "run.yaml:9:28: optimizer.learning_rate: expected a number, found the text \"fast\"",
        "run.yaml:9:45: optimizer.clip_norm: expected a number or none, found the text \"no\"",
        "run.yaml:9:56: optimizer.betas: expected a list or auto, found nothing",
        "run.yaml:9:67: optimizer.eps: expected a number or auto, found the text \".inf\"",
        "run.yaml:10:6: log: expected a section (keys and values), found a list",
      ]),
    Case(
      text: "",
      messages: [
        "run.yaml:1:1: name is missing: the run's name; its folder is output/name",
        "run.yaml:1:1: model is missing: a preset such as ViT-T-16, a .json file, or a section",
        "run.yaml:1:1: data is missing: a section with datasets",
        "run.yaml:1:1: vocabulary is missing: the path of a byte-pair vocabulary file",
      ]),
    Case(
      text: "- a\n- b", set: ["seed=1"],
      messages: ["run.yaml:1:1: the run file: expected a section (keys and values), found a list"]),
    Case(
      text: "name: a\n  model: b",
      messages: ["run.yaml:2:8: not YAML: mapping values are not allowed in this context"]),
    Case(
      text: least + "\nobjective: *nowhere", messages: ["run.yaml:6:12: not YAML: found undefined alias"]),
    Case(
      text: least + "\nlog: {every: 9223372036854775807}",
      messages: ["run.yaml:6:14: log.every: expected a whole number within ±2⁵³, found 9223372036854775807"]),
    Case(
      text: least + "\nbatch: {global: 4294967296}",
      messages: ["run.yaml:6:17: batch.global: expected at most 2³¹, as many as an epoch can have, found 4294967296"]),
    Case(
      text: least + "\nlog: {<<: {every: 3}}",
      messages: ["run.yaml:6:7: merge keys (<<) are not read here; write the keys out"]),
    Case(
      text: least + "\nlog: {every: !!int 3, [a]: 1}",
      messages: [
        "run.yaml:6:14: the tag tag:yaml.org,2002:int is not read here; remove it",
        "run.yaml:6:23: a key must be text",
      ]),
    Case(
      text: least + "\nlog: " + String(repeating: "[", count: 40) + String(repeating: "]", count: 40),
      messages: ["run.yaml:6:37: nested more than 32 levels deep"]),
    Case(
      text: least + "\n---\nname: b",
      messages: [
        "run.yaml:6:1: not YAML: expected a single document in the stream, but found another document"
      ]),
    Case(text: least + "\nname\u{0}: b", messages: ["run.yaml:1:1: not YAML: control characters are not allowed"]),
  ]

  static let overrides: [Case] = [
    Case(
      text: least, set: ["optimizer.learning_rte=1", "optimiser.rate=1", "steps=many"],
      messages: [
        "--set optimizer.learning_rte=1: unknown key \"learning_rte\" in optimizer; did you mean \"learning_rate\"?"
          + " Known keys: learning_rate, weight_decay, betas, eps, warmup, schedule, clip_norm, decay, head_decay,"
          + " groups, layer_decay",
        "--set optimiser.rate=1: unknown key \"optimiser\" in the run file; did you mean \"optimizer\"? Known keys:"
          + " name, output, seed, model, init, freeze, prune, data, vocabulary, image, batch, steps, epochs, reduce,"
          + " optimizer, ema, objective, teacher, log, checkpoint, evaluate, non_finite, watchdog, precision",
        "--set steps=many: steps: expected a whole number or none, found the text \"many\"",
      ]),
    Case(
      text: least, set: ["steps"],
      messages: ["--set steps: expected path=value, such as optimizer.learning_rate=1e-3"]),
    Case(
      text: least, set: ["optimizer..rate=1"],
      messages: ["--set optimizer..rate=1: expected keys joined by dots before =, such as optimizer.learning_rate=1e-3"]
    ),
    Case(
      text: least, set: ["data.datasets.1.weight=2"],
      messages: [
        "--set data.datasets.1.weight=2: data.datasets is a list, whose elements are 0 to 0; found \"1\""
      ]),
    Case(
      text: least, set: ["steps.rate=1"],
      messages: [
        "--set steps.rate=1: steps is the number 10 in the run file, so it has no \"rate\"; set steps as a whole"
      ]),
    Case(
      text: least, set: ["log={every: 3"],
      messages: ["--set log={every: 3: not YAML: while parsing a flow mapping, did not find expected ',' or '}'"]),
    Case(
      text: least, set: ["epochs=3"],
      messages: [
        "run.yaml:5:8: steps: both steps (10) and epochs (3) are given; take one out, or set it to none"
      ]),
  ]

  static let combinations: [Case] = [
    Case(
      text: """
        name: ../up
        output: ""
        model: {preset: ViT-T-16, file: a.json}
        data: {datasets: [], views: -1, workers: 0, prefetch: 0}
        vocabulary: ""
        image: {scale: [0.9, 0.5], ratio: [0, 1], mean: [0], std: [1, 0, 1], color_jitter: {hue: 0.6}, grayscale: -0.1}
        batch: {global: 1}
        optimizer: {learning_rate: 0, weight_decay: -1, betas: [0.9, 1], eps: 0, warmup: -1, \
        clip_norm: 0, head_decay: -1}
        log: {every: 0, term_gradients: -1}
        checkpoint: {every: 0, keep: 0}
        evaluate: {every: 5}
        reduce: {bucket: 0, check_every: 0}
        """,
      messages: [
        "run.yaml:1:1: steps: neither steps nor epochs is given; give one of them",
        "run.yaml:1:7: name: expected the name of a folder, without / and not beginning with a dot, found \"../up\"",
        "run.yaml:2:9: output: expected a folder, found \"\"",
        "run.yaml:3:8: model: expected either preset, or file, or embed_dim with vision_cfg and text_cfg;"
          + " found preset, file",
        "run.yaml:4:18: data.datasets: expected at least one dataset, found an empty list",
        "run.yaml:4:29: data.views: expected 0 (never repeat) or more, found -1",
        "run.yaml:4:42: data.workers: expected 1 to 1024, or auto, found 0",
        "run.yaml:4:55: data.prefetch: expected 1 to 64 batches, found 0",
        "run.yaml:5:13: vocabulary: expected a file, found \"\"",
        "run.yaml:6:16: image.scale: expected [from, to] with 0 < from ≤ to ≤ 1, found [0.9, 0.5]",
        "run.yaml:6:35: image.ratio: expected [from, to] with 0 < from ≤ to, found [0.0, 1.0]",
        "run.yaml:6:49: image.mean: expected [red, green, blue], found [0.0]",
        "run.yaml:6:59: image.std: expected [red, green, blue], each more than 0, found [1.0, 0.0, 1.0]",
        "run.yaml:6:90: image.color_jitter.hue: expected 0.0 to 0.5, found 0.6",
        "run.yaml:6:107: image.grayscale: expected 0.0 to 1.0, found -0.1",
        "run.yaml:7:17: batch.global: expected at least 2, found 1: a pair is compared with others",
        "run.yaml:12:18: reduce.bucket: expected MiB, more than 0, found 0.0",
        "run.yaml:12:34: reduce.check_every: expected at least 1 step, or none, found 0",
        "run.yaml:8:28: optimizer.learning_rate: expected more than 0, found 0.0",
        "run.yaml:8:45: optimizer.weight_decay: expected 0 or more, found -1.0",
        "run.yaml:8:56: optimizer.betas: expected two numbers from 0 to below 1, or auto, found [0.9, 1.0]",
        "run.yaml:8:71: optimizer.eps: expected more than 0, or auto, found 0.0",
        "run.yaml:8:82: optimizer.warmup: expected 0 steps or more, found -1",
        "run.yaml:8:97: optimizer.clip_norm: expected more than 0, or none, found 0.0",
        "run.yaml:8:112: optimizer.head_decay: expected 0 or more, or auto, found -1.0",
        "run.yaml:9:14: log.every: expected at least 1, found 0",
        "run.yaml:9:33: log.term_gradients: expected 0 (never) or more, found -1",
        "run.yaml:10:21: checkpoint.every: expected at least 1, or none, found 0",
        "run.yaml:10:30: checkpoint.keep: expected at least 1, or all, found 0",
        "run.yaml:11:11: evaluate.evaluations: is empty, and evaluate.every is given; name what to evaluate, or set "
          + "evaluate.every to none",
      ]),
    Case(
      text: least + """

        batch: {global: 4, micro_batch_size: 5}
        evaluate:
          evaluations:
            - {kind: zero-shot, dataset: c}
            - {kind: retrieval, dataset: "", classes: c.txt}
            - {kind: zero-shot, dataset: c, duplicates: strict}
        """,
      messages: [
        "run.yaml:6:38: batch.micro_batch_size: 5 is more than batch.global (4); lower it, or set it to all",
        "run.yaml:10:7: evaluate.evaluations.1: classes, templates and subset belong to kind zero-shot;"
          + " this is kind retrieval",
        "run.yaml:10:34: evaluate.evaluations.1.dataset: expected a path, found \"\"",
        "run.yaml:11:7: evaluate.evaluations.2: captions and duplicates belong to kind retrieval;"
          + " this is kind zero-shot",
      ]),
    Case(
      text: least + """

        evaluate:
          patience: 0
          keep_best: loss
          evaluations: []
        """,
      messages: [
        "run.yaml:7:13: evaluate.patience: expected at least 1, or none, found 0",
        "run.yaml:7:13: evaluate.patience: counts rounds of evaluation without a new best; give evaluate.every and"
          + " evaluate.keep_best too, or set evaluate.patience to none",
        "run.yaml:8:14: evaluate.keep_best: is given, and evaluate.evaluations is empty; name what to evaluate, or set"
          + " evaluate.keep_best to none",
      ]),
    Case(
      text: least, set: ["model=ViT-T-17"],
      messages: [
        "--set model=ViT-T-17: model.preset: no model is called ViT-T-17; there are ViT-T-16, ViT-S-16, ViT-B-32,"
          + " ViT-B-16, ViT-L-14, RN50, RN101, ViT-64-T-16, ViT-64-S-16, ViT-64-S-8, ViT-64-B-8,"
          + " each also with -quickgelu, or name a JSON file"
      ]),
    Case(
      text: least,
      set: ["model={embed_dim: 8, vision_cfg: {patch_size: 8, width: 60, layers: 2, depth: 1}, text_cfg: {width: 8}}"],
      messages: [
        "model.text_cfg.heads is missing: the number of attention heads",
        "model.text_cfg.layers is missing: the number of blocks",
        "unknown key \"depth\" in model.vision_cfg. Known keys: image_size, layers, patch_size, width, head_width,"
          + " mlp_ratio, patch_dropout",
      ].map {
        "--set model={embed_dim: 8, vision_cfg: {patch_size: 8, width: 60, layers: 2, depth: 1},"
          + " text_cfg: {width: 8}}: " + $0
      }),
    Case(
      text: least.replacing(
        "ViT-T-16",
        with: "{embed_dim: 8, vision_cfg: {patch_size: 8, width: 60, layers: 2},"
          + " text_cfg: {width: 8, heads: 1, layers: 1}}"),
      messages: [
        "run.yaml:2:8: model: vision_cfg.width 60 is not a multiple of head_width 64: set head_width to a divisor"
      ]),
  ]

  @Test(arguments: typesAndKeys + overrides + combinations) func everyMistakeIsTold(_ wrong: Case) {
    let error = #expect(throws: RunFileError.self) { try RunFileTests.decode(wrong.text, set: wrong.set) }
    #expect(error?.problems.map(\.line).sorted() == wrong.messages.sorted())
    #expect(error?.status == .usage)
  }

  /// Aliases of aliases, as values and as keys, which Yams compares; and aliases of a long list.
  @Test(arguments: [
    (
      (1...9).reduce("a0: &a0 [x, x]") { text, level in
        let aliases = Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
        return "\(text)\na\(level): &a\(level) [\(aliases)]"
      }, "may repeat a value too often"
    ),
    ((1...30).reduce("a0: &a0 x") { "\($0)\na\($1): &a\($1) {*a\($1 - 1), [*a\($1 - 1)]}" }, "a value too often"),
    (
      "a: &a [\(Array(repeating: "x", count: 200).joined(separator: ", "))]\nb: ["
        + "\(Array(repeating: "*a", count: 100).joined(separator: ", "))]", "repeat too many values"
    ),
  ])
  func aliasesAreBounded(text: String, words: String) {
    let error = #expect(throws: RunFileError.self) {
      try RunNode.parse(text) { .file("run.yaml", line: $0, column: $1) }
    }
    #expect(error?.problems.count == 1 && error?.problems.first?.text.contains(words) == true, "\(error as Any)")
  }

  @Test func filesThatAreNoRunFiles() throws {
    let folder = try TemporaryFolder()
    let missing = #expect(throws: RunFileUnreadable.self) { try RunConfig.load(folder.path("none.yaml")) }
    #expect(missing?.description.hasPrefix("cannot read the run file \(folder.path("none.yaml")): ") == true)
    #expect(missing?.status == .inputOutput)
    let binary = try folder.write("binary", [0xFF, 0xFE, 0x80, 0x00])
    let noText = #expect(throws: RunFileUnreadable.self) { try RunConfig.load(binary) }
    #expect(noText?.status == .badData)
    let large = try folder.write("large", [UInt8](repeating: 0x23, count: 1 << 20 + 1))
    #expect(throws: RunFileUnreadable.self) { try RunConfig.load(large) }
    #expect(throws: RunFileUnreadable.self) { try RunConfig.load(folder.url.path) }
  }
}
