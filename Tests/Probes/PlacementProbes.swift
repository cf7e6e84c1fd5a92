import Dist
import Model
import Tensor

/// Weights in memory that several ranks share. The arguments of probes that split the job are the sizes of the groups,
/// each of which represents a node.
let placementProbes: [String: Scenario] = [
  "shared-weights": { ranks, arguments in
    let (group, number) = try grouped(ranks, arguments)
    let scene = PlacementScene()
    let window = try SharedWindow<Float>(count: scene.whole.parameters.count, over: group)
    let model = CLIP<Float>(scene.config, frozen: true, values: window.values)
    let own = group.slice(of: window.values.count)
    copy(scene.whole.parameters.values.slice(own), into: window.values.slice(own))
    try window.publish()
    let isSame = scene.features(model) == scene.features(scene.whole)
    // After all ranks have read the values, a write by one rank is seen by all of its group and by no other group.
    try window.publish()
    if group.rank == group.size - 1 { window.values[0] = Float(number) + 0.5 }
    try window.publish()
    say("\(ranks.rank): \(isSame) \(window.values[0])")
    return 0
  },
  "shared-memory-too-small": { ranks, _ in
    let space = SharedMemorySpace(folder: "/shared", size: 64 << 20, free: 20 << 20)
    _ = try SharedWindow<Float>(count: 1 << 19, over: ranks.node(), space: space)
    say("\(ranks.rank): 2 MiB fit")
    _ = try SharedWindow<Float>(count: 1 << 28, over: ranks.node(), space: space)
    return 0
  },
]

/// Returns the communicator of this rank's group, and the group's number.
private func grouped(_ ranks: Communicator, _ sizes: [String]) throws -> (Communicator, number: Int) {
  var end = 0
  let ends = sizes.compactMap { Int($0) }.map { size in
    end += size
    return end
  }
  let number = ends.firstIndex { ranks.rank < $0 } ?? ends.count
  return (try ranks.split(group: number), number)
}

/// A small model with the same random weights on every rank, and its input.
private struct PlacementScene {
  let config = CLIPConfig(
    embedding: 12, vision: VisionConfig(imageSize: 16, patchSize: 8, width: 32, layers: 3, headWidth: 16),
    text: TextConfig(contextLength: 6, vocabularySize: 50, width: 24, heads: 2, layers: 2))
  let whole: CLIP<Float>
  let images = Tensor<Float>(Shape(3, 3, 16, 16))
  let captions: [[Int32]] = [[48, 3, 4, 49], [48, 49], [48, 11, 12, 13, 14, 49]]

  init() {
    whole = CLIP(config, frozen: true)
    whole.initialize(seed: 9)
    var random = KeyedRandom(seed: 9, purpose: "pictures")
    for index in 0..<images.count { images[index] = Float(random.normal()) }
  }

  /// Returns the bits of all features.
  func features(_ model: CLIP<Float>) -> [UInt32] {
    let image = model.visual.forward(images, mode: .evaluation).array
    return (image + model.text.forward(TokenBatch(captions), mode: .evaluation).array).map(\.bitPattern)
  }
}
