import Dist
import Model
import Tensor

/// Compares forward and backward of a ResNet whose batch statistics cover all ranks with one rank that has all images.
/// Argument: images. Rank 0 prints the largest relative difference of the features, of each parameter's gradient and of
/// each buffer.
let resNetProbes: [String: Scenario] = [
  "resnet-float": { try compareWithOneRank(Float.self, $0, $1) },
  "resnet-double": { try compareWithOneRank(Double.self, $0, $1) },
]

private func compareWithOneRank<S: Scalar>(
  _ type: S.Type, _ communicator: Communicator, _ arguments: [String]
) throws -> Int32 {
  guard arguments.count == 1, let images = Int(arguments[0]) else { return 64 }
  // Four points of each image reach the last stage: with two points in all, normalisation would amplify rounding.
  let (size, embedding) = (64, 7)
  let config = CLIPConfig(
    embedding: embedding, vision: VisionConfig(imageSize: size, stages: [1, 2, 1, 1], width: 4, headWidth: 32),
    text: TextConfig(contextLength: 3, vocabularySize: 5, width: 2, heads: 1, layers: 1))
  let all = Tensor<S>(Shape(images, 3, size, size))
  var random = KeyedRandom(seed: 3, purpose: "pictures")
  for index in 0..<all.count { all[index] = S(random.normal()) }
  let weights = Tensor<S>(Shape(images, embedding))
  for index in 0..<weights.count { weights[index] = S(random.normal()) }

  /// Computes the gradient of Σ weights · features over this rank's images.
  func run(_ rows: Range<Int>, _ ranks: any Ranks<S>) throws -> (features: Tensor<S>, model: CLIP<S>) {
    let model = CLIP<S>(config)
    model.initialize(seed: 5)
    // A block initially equals its shortcut; here every part of it contributes.
    for entry in model.parameters.entries where entry.name.hasSuffix("bn3.weight") {
      fill(model.parameters.value(of: entry), 1)
    }
    model.visual.synchronize(over: ranks)
    let count = 3 * size * size
    let images = all.slice(rows.lowerBound * count..<rows.upperBound * count)
      .reshaped(Shape(rows.count, 3, size, size))
    let features = model.visual.forward(images, mode: .training)
    model.visual.backward(weights.rows(rows))
    try model.visual.moveStatistics()
    return (features, model)
  }

  let rows = communicator.slice(of: images)
  let shared = try run(rows, JobRanks<S>(communicator: communicator))
  try communicator.allReduce(shared.model.parameters.gradients)
  let features = Tensor<S>(Shape(images, embedding))
  try communicator.allGather(rows: shared.features, into: features)
  let alone = try run(0..<images, SingleRank<S>())
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
