import Dist
import Foundation
import Model
import Settings
import Tensor

/// Compares training steps on all ranks with the same steps on one: the losses, and every parameter at the end.
struct ExactnessBench {
  let steps, pairs: Int
  let bucket: Double
  var levels = ReduceLevels.auto
  static let learningRate = 1e-4
  static let teacherWidth = 10
  /// The frozen parameters: a whole tower, and layers in the middle of the other, through which gradients continue.
  static let frozen = ["text", "visual.bn2", "visual.layer2", "visual.attnpool.positional_embedding"]

  struct Report: Encodable {
    var precision: String
    var ranks, steps: Int
    var models: [Compared] = []
  }

  /// The difference between a parameter on all ranks and on one.
  struct Difference: Encodable {
    var name: String
    /// The largest difference of the parameter's numbers, and that of 99 % of them.
    var largest, most: Double
    /// True for biases of keys, whose gradients are 0 except for rounding, which AdamW scales up to full steps.
    var isFree: Bool

    init(_ name: String, _ differences: some Collection<Double>, isFree: Bool = false) {
      let sorted = differences.sorted()
      (self.name, self.isFree) = (name, isFree)
      (largest, most) = (sorted.last ?? 0, sorted[(sorted.count - 1) * 99 / 100])
    }
  }

  struct Compared: Encodable {
    var model: String
    /// The largest difference of a step's losses, relative to the loss.
    var loss: Double
    var parameters: [Difference]

    fileprivate var text: String {
      let largest = parameters.max { $0.largest < $1.largest }
      let bound = parameters.filter { !$0.isFree }.max { $0.most < $1.most }
      return "losses differ by \(Figures.significant(loss, 3)) relative to the loss; 99 % of a parameter's numbers by "
        + "at most \(Figures.significant(bound?.most ?? 0, 3)) (\(bound?.name ?? "")), all numbers by at most "
        + "\(Figures.significant(largest?.largest ?? 0, 3)) (\(largest?.name ?? ""))"
    }

    /// Returns the first difference that is larger than rounding, or nil if there is none.
    fileprivate func problem(isDouble: Bool, steps: Int) -> String? {
      let (lossBound, most) = isDouble ? (1e-9, 1e-9) : (1e-5, 2e-5)
      if loss > lossBound { return "losses differ by \(loss) relative to the loss, expected at most \(lossBound)" }
      for parameter in parameters {
        // AdamW moves a number by no more than the learning rate in a step.
        let all = isDouble && !parameter.isFree ? 1e-9 : ExactnessBench.learningRate * Double(steps)
        if parameter.largest > all {
          return "\(parameter.name) differs by \(parameter.largest), expected at most \(all)"
        }
        if !parameter.isFree, parameter.most > most {
          return "99 % of the numbers of \(parameter.name) differ by up to \(parameter.most), expected at most \(most)"
        }
      }
      return nil
    }
  }

  /// Every rank must call it. The exit code is 70 if losses or parameters differ by more than rounding.
  func run<S: Scalar>(_ type: S.Type, _ communicator: Communicator, log: (String) -> Void) throws -> Report {
    let isDouble = S.self == Double.self
    let alone = try communicator.split(group: communicator.rank)
    let text = TextConfig(contextLength: 9, vocabularySize: 301, width: 24, heads: 3, layers: 2)
    let transformer = CLIPConfig(
      embedding: 24, vision: VisionConfig(imageSize: 16, patchSize: 4, width: 40, layers: 2, headWidth: 10), text: text)
    let resNet = CLIPConfig(
      embedding: 24, vision: VisionConfig(imageSize: 32, stages: [1, 2, 1, 1], width: 8, headWidth: 32), text: text)
    for config in [transformer, resNet] {
      let parts = try config.memory(pairs: pairs, use: .training)
      try MemoryDemand(subject: "this benchmark", parts: parts, advice: "lower --pairs").require(over: communicator)
    }
    let models = [
      ("ViT", transformer, [], steps), ("ResNet", resNet, [], steps),
      ("ResNet, frozen in part", resNet, Self.frozen, (steps + 3) / 4),
    ]
    var report = Report(precision: isDouble ? "double" : "float", ranks: communicator.size, steps: steps)
    for (name, config, freeze, steps) in models {
      let found = try train(S.self, config, freeze, steps, communicator)
      let wanted = try train(S.self, config, freeze, steps, alone)
      let loss = zip(found.losses, wanted.losses).map { abs($0 - $1) / abs($1) }.max() ?? 0
      let compared = Compared(model: name, loss: loss, parameters: differences(found.model, wanted.model))
      log("\(name) in \(report.precision) precision on \(communicator.size) ranks: \(compared.text)")
      report.models.append(compared)
    }
    for compared in report.models {
      guard let reason = compared.problem(isDouble: isDouble, steps: steps) else { continue }
      let text = "\(compared.model), \(steps) steps on \(communicator.size) ranks: \(reason)"
      throw UserError(nil, text, status: .internalError, isShared: true)
    }
    return report
  }

  private func train<S: Scalar>(
    _ type: S.Type, _ config: CLIPConfig, _ freeze: [String], _ steps: Int, _ ranks: Communicator
  ) throws -> (losses: [Double], model: CLIP<S>) {
    var options = ObjectivePreset.intra.options
    options[ICLSettings.self].weight = Scheduled(1)
    let (model, objective) = CLIP<S>.student(config, options, teacherWidth: Self.teacherWidth)
    model.parameters.allocate(gradients: true)
    model.initialize(seed: 5)
    model.visual.synchronize(over: JobRanks(communicator: ranks))
    var run = RunConfig()
    (run.reduce.bucket, run.reduce.levels, run.freeze) = (bucket, levels, freeze)
    let frozen = try run.frozen(in: model.parameters)
    let step = try Step(model, objective, .init(clipNorm: 10, reduce: run.reduce, frozen: frozen), communicator: ranks)
    let rows = ranks.slice(of: pairs)
    let size = config.vision.imageSize
    let losses = try (0..<steps).map { number in
      let teacher = objective.teacherRows(rows, of: pairs)
      for (name, tensor) in [("image", teacher.image), ("text", teacher.text)] {
        fill(tensor, "teacher's \(name)", rows, step: number)
        normalizeRows(tensor, into: tensor, reciprocal: Tensor(Shape(rows.count)))
      }
      let images = Tensor<S>(Shape(rows.count, 3, size, size))
      fill(images, "pictures", rows, step: number)
      let captions = rows.map { caption(config.text, row: $0, step: number) }
      let batch = StepBatch(images: images, captions: captions, rows: rows, count: pairs, teacherScale: S(20))
      return try step.run(batch, learningRate: Self.learningRate).loss
    }
    try step.checkReplicas(after: steps)
    return (losses, model)
  }

  /// Fills rows with numbers that are functions of the step and the row.
  private func fill<S: Scalar>(_ tensor: Tensor<S>, _ name: String, _ rows: Range<Int>, step: Int) {
    for (index, row) in rows.enumerated() {
      let width = tensor.count / rows.count
      var random = KeyedRandom(seed: UInt64(step), purpose: name, UInt64(row))
      for at in index * width..<(index + 1) * width { tensor[at] = S(random.normal()) }
    }
  }

  private func caption(_ config: TextConfig, row: Int, step: Int) -> [Int32] {
    var random = KeyedRandom(seed: UInt64(step), purpose: "captions", UInt64(row))
    let words = (0..<random.below(config.contextLength - 1)).map { _ in Int32(random.below(config.vocabularySize - 1)) }
    return words + [Int32(config.vocabularySize - 1)]
  }

  private func differences<S: Scalar>(_ found: CLIP<S>, _ wanted: CLIP<S>) -> [Difference] {
    found.parameters.entries.flatMap { entry -> [Difference] in
      let all = zip(found.parameters.value(of: entry).array, wanted.parameters.value(of: entry).array)
        .map { abs(Double($0) - Double($1)) }
      guard entry.name.hasSuffix("in_proj_bias") else {
        return [Difference(entry.name, all, isFree: entry.name.hasSuffix("attnpool.k_proj.bias"))]
      }
      let third = all.count / 3
      return [
        Difference(entry.name, all[..<third] + all[(2 * third)...]),
        Difference("\(entry.name), keys", all[third..<2 * third], isFree: true),
      ]
    }
  }
}
