import Dist
import Foundation
import Model
import Settings
import Tensor

/// Compares training steps on all ranks with the same steps on one: the losses, and every parameter at the end.
struct ExactnessBench {
  var steps = 20
  /// The pairs of all ranks.
  var pairs = 13
  /// The size of a bucket of gradients in MiB.
  var bucket = 0.1
  static let learningRate = 1e-4
  static let teacherWidth = 10
  /// The frozen parameters: a whole tower, and layers in the middle of the other with their batch norms, through which
  /// gradients continue.
  static let frozen = ["text", "visual.bn2", "visual.layer2", "visual.attnpool.positional_embedding"]

  /// The last line of output.
  struct Report: Codable {
    var precision: String
    var ranks: Int
    var steps: Int
    var models: [Compared]
  }

  struct Compared: Codable {
    var model: String
    /// The largest difference of a step's losses, relative to the loss.
    var loss: Double
    var parameters: [Difference]
  }

  /// The difference between a parameter on all ranks and on one.
  struct Difference: Codable {
    var name: String
    /// The largest difference of the parameter's numbers.
    var largest: Double
    /// The largest difference of 99 % of its numbers.
    var most: Double
    /// True if the parameter's gradient is 0 except for rounding, which AdamW scales up to full steps. These are the
    /// biases of keys, which shift all of a softmax's scores equally.
    var isFree: Bool
  }

  /// Every rank must call it.
  ///
  /// - Throws: `RanksDeviate` (exit code 70) if losses or parameters differ by more than rounding.
  func run<S: Scalar>(_ type: S.Type, _ communicator: Communicator, log: (String) -> Void) throws -> Report {
    let precision = S.self == Double.self ? "double" : "float"
    let alone = try communicator.split(group: communicator.rank)
    let text = TextConfig(contextLength: 9, vocabularySize: 301, width: 24, heads: 3, layers: 2)
    let transformer = CLIPConfig(
      embedding: 24, vision: VisionConfig(imageSize: 16, patchSize: 4, width: 40, layers: 2, headWidth: 10), text: text)
    let resNet = CLIPConfig(
      embedding: 24, vision: VisionConfig(imageSize: 32, stages: [1, 2, 1, 1], width: 8, headWidth: 32), text: text)
    let models = [
      ("ViT", transformer, [], steps), ("ResNet", resNet, [], steps),
      ("ResNet, frozen in part", resNet, Self.frozen, (steps + 3) / 4),
    ]
    var report = Report(precision: precision, ranks: communicator.size, steps: steps, models: [])
    for (name, config, freeze, steps) in models {
      let found = try train(S.self, config, freeze, steps, communicator)
      let wanted = try train(S.self, config, freeze, steps, alone)
      let loss = zip(found.losses, wanted.losses).map { abs($0 - $1) / abs($1) }.max() ?? 0
      let compared = Compared(model: name, loss: loss, parameters: differences(found.model, wanted.model))
      log("\(name) in \(precision) precision on \(communicator.size) ranks: \(compared.text)")
      report.models.append(compared)
    }
    for compared in report.models {
      if let reason = compared.problem(precision, steps: steps) {
        throw RanksDeviate(description: "\(compared.model), \(steps) steps on \(communicator.size) ranks: \(reason)")
      }
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
    run.reduce.bucket = bucket
    run.freeze = freeze
    let step = try Step(
      model, objective,
      .init(clipNorm: 10, reduce: run.reduce, frozen: run.frozen(in: model.parameters)), communicator: ranks)
    let rows = ranks.slice(of: pairs)
    let losses = try (0..<steps).map { number in
      let teacher = objective.teacherRows(rows, of: pairs)
      for (name, tensor) in [("image", teacher.image), ("text", teacher.text)] {
        fill(tensor, "teacher's \(name)", rows, step: number)
        normalizeRows(tensor, into: tensor, reciprocal: Tensor(Shape(rows.count)))
      }
      let size = config.vision.imageSize
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
      var random = KeyedRandom(seed: UInt64(step), purpose: name, UInt64(row))
      let width = tensor.count / rows.count
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
      let third = all.count / 3
      if entry.name.hasSuffix("in_proj_bias") {
        return [
          Difference(entry.name, Array(all[..<third] + all[(2 * third)...])),
          Difference("\(entry.name), keys", Array(all[third..<2 * third]), isFree: true),
        ]
      }
      return [Difference(entry.name, all, isFree: entry.name.hasSuffix("attnpool.k_proj.bias"))]
    }
  }
}

extension ExactnessBench.Difference {
  fileprivate init(_ name: String, _ differences: [Double], isFree: Bool = false) {
    let sorted = differences.sorted()
    self.init(name: name, largest: sorted.last ?? 0, most: sorted[(sorted.count - 1) * 99 / 100], isFree: isFree)
  }
}

extension ExactnessBench.Compared {
  private var bound: ExactnessBench.Difference? {
    parameters.filter { !$0.isFree }.max { $0.most < $1.most }
  }

  fileprivate var text: String {
    let largest = parameters.max { $0.largest < $1.largest }
    return "losses differ by \(Figures.significant(loss, 3)) relative to the loss; 99 % of a parameter's numbers by at "
      + "most \(Figures.significant(bound?.most ?? 0, 3)) (\(bound?.name ?? "")), all numbers by at most "
      + "\(Figures.significant(largest?.largest ?? 0, 3)) (\(largest?.name ?? ""))"
  }

  /// Returns the first difference that is larger than rounding, or nil if there is none.
  fileprivate func problem(_ precision: String, steps: Int) -> String? {
    let isDouble = precision == "double"
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

/// The ranks' results differ from those of one rank by more than rounding.
struct RanksDeviate: ExitCoded, CustomStringConvertible {
  let description: String

  var isShared: Bool { true }
  var status: ExitStatus { .internalError }
}
