import Dist
import Model
import Settings
import Tensor

/// Compares the objective and the gradients of a whole step on the ranks of the job with those of one rank. Arguments:
/// pairs, tile, and optionally `readings` for other options of the intra-modal term. The teacher has another width, so
/// there are projection heads. Rank 0 prints the relative difference of the loss, and the largest one of each
/// parameter's gradient.
let lossProbes: [String: Scenario] = [
  "loss-float": { try compareWithOneRank(Float.self, $0, $1) },
  "loss-double": { try compareWithOneRank(Double.self, $0, $1) },
]

/// Adapts a job's communicator to the protocol that the model uses.
struct JobRanks<S: Scalar>: Ranks {
  let communicator: Communicator
  func allGather(_ local: Tensor<S>, into all: Tensor<S>) throws { try communicator.allGather(rows: local, into: all) }
  func allReduce(_ numbers: inout [Double]) throws { try communicator.allReduce(&numbers) }
  func allReduceMaximum(_ numbers: inout [Double]) throws { try communicator.allReduce(&numbers, .maximum) }
}

private func compareWithOneRank<S: Scalar>(
  _ type: S.Type, _ communicator: Communicator, _ arguments: [String]
) throws -> Int32 {
  guard arguments.count >= 2, let pairs = Int(arguments[0]), let tile = Int(arguments[1]) else { return 64 }
  var config = CLIPConfig(
    embedding: 24, vision: VisionConfig(imageSize: 16, patchSize: 4, width: 20, layers: 2, headWidth: 5),
    text: TextConfig(contextLength: 9, vocabularySize: 31, width: 12, heads: 3, layers: 2))
  config.activation = .gelu

  var random = KeyedRandom(seed: 3, purpose: "probe")
  let pixels = (0..<pairs * 3 * 16 * 16).map { _ in S(random.normal()) }
  let captions = (0..<pairs).map { _ in (0..<random.below(8)).map { _ in Int32(random.below(29)) } + [30] }

  var options = ObjectivePreset.intra.options
  options[ICLSettings.self].weight = Scheduled(1)
  options[CrossKDSettings.self].weight = Scheduled(0.5)
  options[GDSettings.self].weight = Scheduled(100)
  options[AFDSettings.self].weight = Scheduled(0.5)
  options[AffinitySettings.self].weight = Scheduled(0.5)
  options[FDSettings.self].weight = Scheduled(20)
  options[GramSettings.self].weight = Scheduled(0.5)
  if arguments.last == "readings" {
    options[GramSettings.self].weights = .difference
    options[IntraSettings.self].switches.temperature = .learned
    options[IntraSettings.self].switches.diagonal = .keep
    options[IntraSettings.self].switches.weighting = .inverse
    options[IntraSettings.self].switches.multiplies = [.intra, .clip, .crd, .fd]
  }
  func unit() -> Tensor<S> {
    let raw = Tensor(Shape(pairs, 10), (0..<pairs * 10).map { _ in S(random.normal()) })
    normalizeRows(raw, into: raw, reciprocal: Tensor(Shape(pairs)))
    return raw
  }
  let teacher = (image: unit(), text: unit())

  func gradients(_ rows: Range<Int>, _ ranks: some Ranks<S>) throws -> (loss: Double, model: CLIP<S>) {
    let (model, objective) = CLIP<S>.student(
      config, options, teacherWidth: 10, tiles: Tiles(rows: tile, columns: tile + 1))
    model.parameters.allocate(gradients: true)
    model.initialize(seed: 5)
    let size = 3 * 16 * 16
    let images = Tensor(Shape(rows.count, 3, 16, 16), pixels[rows.lowerBound * size..<rows.upperBound * size])
    let image = model.visual.forward(images, mode: .training)
    let text = model.text.forward(TokenBatch(captions[rows]), mode: .training)
    let taught = objective.teacherRows(rows, of: pairs)
    copy(teacher.image.rows(rows), into: taught.image)
    copy(teacher.text.rows(rows), into: taught.text)
    let loss = try objective.accumulate(
      image: image, text: text, rows: rows, count: pairs, logitScale: model.logitScale, teacherScale: 20, ranks: ranks
    ).total
    let (dimage, dtext) = objective.rawGradients()
    model.text.backward(dtext)
    model.visual.backward(dimage)
    return (loss, model)
  }

  let shared = try gradients(communicator.slice(of: pairs), JobRanks<S>(communicator: communicator))
  try communicator.allReduce(shared.model.parameters.gradients)
  let alone = try gradients(0..<pairs, SingleRank<S>())
  guard communicator.rank == 0 else { return 0 }
  say("loss \(abs(shared.loss - alone.loss) / abs(alone.loss))")
  for entry in alone.model.parameters.entries {
    let wanted = alone.model.parameters.gradient(of: entry).array
    let found = shared.model.parameters.gradient(of: entry).array
    // A scale's gradient is a sum over N² entries that cancel; their absolute values add up to 2 at most.
    let size = entry.shape.count == 1 ? 1 : 0.0
    let largest = max(size, wanted.map { abs(Double($0)) }.max() ?? 0)
    let difference = zip(wanted, found).map { abs(Double($0) - Double($1)) }.max() ?? 0
    say("\(entry.name) \(difference / largest)")
  }
  return 0
}
