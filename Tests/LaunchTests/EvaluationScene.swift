import Dist
import Foundation
import Model
import Tensor
import TestSupport

@testable import Launch

/// A dataset of small images, a vocabulary of their captions and an untrained model, as files.
struct EvaluationScene {
  static let words = ["red", "green", "blue", "round", "square", "old", "new", "cat", "dog", "house"]
  static let classes = ["red cat", "green dog", "blue house", "old square", "new round", "dog"]

  let folder: TemporaryFolder
  /// The samples of the dataset.
  let samples: [DatasetSample]
  let model: CLIP<Float>
  let tokenizer: BytePairTokenizer

  var dataset: String { folder.path("corpus") }

  /// The options that name the model.
  var source: [String] {
    [
      "--checkpoint", folder.path("model.safetensors"), "--model", folder.path("model.json"),
      "--vocabulary", folder.path("vocabulary.txt.gz"),
    ]
  }

  /// Makes `count` images with one to three captions each, some of which other images have too. Every seventh image has
  /// no label.
  init(count: Int) throws {
    folder = try TemporaryFolder()
    samples = (0..<count).map { index in
      var random = KeyedRandom(seed: 3, purpose: "scene", UInt64(index))
      let (width, height) = (random.below(9) + 4, random.below(9) + 4)
      let captions = (0..<random.below(3) + 1).map { _ in
        (0..<random.below(3) + 1).map { _ in Self.words[random.below(Self.words.count)] }.joined(separator: " ")
      }
      let rgb = (0..<3 * width * height).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      return DatasetSample(
        image: PNGImage.encode(width: width, height: height, rgb: rgb), captions: captions, key: "image \(index)",
        label: index % 7 == 6 ? nil : random.below(Self.classes.count))
    }
    var writer = try DatasetWriter(
      name: "scene", folder: folder.path("corpus"), labeled: true, labels: Self.classes,
      limits: .init(samples: 64))
    for sample in samples { try writer.append(sample) }
    _ = try writer.finish()

    var counts = WordCounts()
    for caption in samples.flatMap(\.captions) { counts.add(caption) }
    let vocabulary = try VocabularyTrainer.train(on: counts, merges: 40)
    try vocabulary.write(to: folder.path("vocabulary.txt.gz"))
    tokenizer = BytePairTokenizer(vocabulary: vocabulary, context: 8)

    let json = """
      {"embed_dim": 16, "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
       "text_cfg": {"context_length": 8, "vocab_size": \(vocabulary.size), "width": 32, "heads": 2, "layers": 2}}
      """
    try folder.write("model.json", json.utf8)
    model = CLIP(try CLIPConfig(json: Data(json.utf8)), frozen: true)
    // The values are larger than initial ones, so that embeddings differ well.
    for (index, entry) in model.parameters.entries.enumerated() {
      var random = KeyedRandom(seed: 5, purpose: "weights", UInt64(index))
      let value = model.parameters.value(of: entry)
      for at in 0..<value.count { value[at] = Float(random.uniform(from: -0.3, to: 0.3)) }
    }
    try SafetensorsFile.write(
      model.parameters.entries.map { SafetensorsEntry($0.name, model.parameters.value(of: $0)) },
      to: folder.path("model.safetensors"))
  }

  // MARK: - The same, slowly

  /// Returns the embedding of one item, scaled to length 1.
  func embedding(image: [UInt8], _ options: ImageOptions = ImageOptions()) throws -> [Double] {
    let tensor = Tensor<Float>(Shape(1, 3, 16, 16))
    let preparation = try ImagePreparation(options.sized(16), seed: 0)
    try preparation.prepareEvaluation(image, into: tensor.reshaped(Shape(3, 16, 16)))
    return unit(model.visual.forward(tensor, mode: .evaluation).doubles)
  }

  func embedding(text: String) -> [Double] {
    unit(model.text.forward(TokenBatch([tokenizer.encode(text)]), mode: .evaluation).doubles)
  }

  func unit(_ vector: [Double]) -> [Double] {
    let length = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
    return vector.map { $0 / length }
  }

  /// Returns the share of queries with an answer before all but `k` − 1 of the wrong candidates.
  func recall(
    _ queries: [[Double]], _ candidates: [[Double]], at k: Int, isAnswer: (Int, Int) -> Bool
  ) -> Double {
    let hits = places(queries, candidates, isAnswer: isAnswer).count { $0 < k }
    return Double(hits) / Double(queries.count)
  }

  /// Returns the number of wrong candidates before the best answer of each query.
  func places(_ queries: [[Double]], _ candidates: [[Double]], isAnswer: (Int, Int) -> Bool) -> [Int] {
    queries.indices.map { query in
      let scores = candidates.map { zip($0, queries[query]).reduce(0) { $0 + $1.0 * $1.1 } }
      let best = candidates.indices.filter { isAnswer(query, $0) }.map { scores[$0] }.max() ?? -.infinity
      return candidates.indices.count { !isAnswer(query, $0) && scores[$0] > best }
    }
  }
}
