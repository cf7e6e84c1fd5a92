import Dist
import Model
import Tensor

/// A ResNet's forward and backward with statistics of all ranks, beside one rank that has all pictures; argument:
/// pictures. Rank 0 prints the largest relative difference of the features, of each parameter's gradient and of each
/// buffer.
let resNetProbes: [String: Scenario] = [
  "resnet-float": { try compareWithOneRank(Float.self, $0, $1) },
  "resnet-double": { try compareWithOneRank(Double.self, $0, $1) },
]

private func compareWithOneRank<S: Scalar>(
  _ type: S.Type, _ communicator: Communicator, _ arguments: [String]
) throws -> Int32 {
  guard arguments.count == 1, let pictures = Int(arguments[0]) else { return 64 }
  // Four points of each picture reach the last stage: norms over two points in all would hang on their last digit.
  let (size, embedding) = (64, 7)
  let config = CLIPConfig(
    embedding: embedding, vision: VisionConfig(imageSize: size, stages: [1, 2, 1, 1], width: 4, headWidth: 32),
    text: TextConfig(contextLength: 3, vocabularySize: 5, width: 2, heads: 1, layers: 1))
  let all = Tensor<S>(Shape(pictures, 3, size, size))
  var random = KeyedRandom(seed: 3, purpose: "pictures")
  for index in 0..<all.count { all[index] = S(random.normal()) }
  let weights = Tensor<S>(Shape(pictures, embedding))
  for index in 0..<weights.count { weights[index] = S(random.normal()) }

  /// The gradient of Σ weights · features over this rank's pictures.
  func run(_ rows: Range<Int>, _ ranks: any Ranks<S>) throws -> (features: Tensor<S>, model: CLIP<S>) {
    let model = CLIP<S>(config)
    model.initialize(seed: 5)
    // A block begins as its shortcut; here every part of it has a say.
    for entry in model.parameters.entries where entry.name.hasSuffix("bn3.weight") {
      fill(model.parameters.value(of: entry), 1)
    }
    model.visual.synchronize(over: ranks)
    let count = 3 * size * size
    let images = all.slice(rows.lowerBound * count..<rows.upperBound * count)
      .reshaped(Shape(rows.count, 3, size, size))
    let features = model.visual.forward(images, keeping: true)
    model.visual.backward(weights.rows(rows))
    try model.visual.moveStatistics()
    return (features, model)
  }

  let rows = communicator.slice(of: pictures)
  let shared = try run(rows, JobRanks<S>(communicator: communicator))
  try communicator.sum(shared.model.parameters.gradients)
  let features = Tensor<S>(Shape(pictures, embedding))
  try communicator.gatherRows(shared.features, into: features)
  let alone = try run(0..<pictures, SingleRank<S>())
  guard communicator.rank == 0 else { return 0 }
  func compare(_ name: String, _ found: [some BinaryFloatingPoint], _ wanted: [some BinaryFloatingPoint]) {
    let difference = zip(found, wanted).map { abs(Double($0) - Double($1)) }.max() ?? 0
    let largest = wanted.map { abs(Double($0)) }.max() ?? 0
    say("\(name) \(difference == 0 ? 0 : difference / largest)")
  }
  compare("features", features.array, alone.features.array)
  let (store, single) = (shared.model.parameters, alone.model.parameters)
  for entry in single.entries where entry.name.hasPrefix("visual.") {
    compare(entry.name, store.gradient(of: entry).array, single.gradient(of: entry).array)
  }
  for buffer in single.buffers { compare(buffer.name, store.value(of: buffer).array, single.value(of: buffer).array) }
  return 0
}
