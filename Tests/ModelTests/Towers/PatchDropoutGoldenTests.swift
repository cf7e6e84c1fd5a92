import Foundation
import Tensor
import TestSupport
import Testing

@testable import Model

/// Patch dropout against open_clip's own module in training: features and gradients where the same patches are kept.
@Suite struct PatchDropoutGoldenTests {
  /// What open_clip computed; `Tests/Fixtures/patch_dropout/make_patch_dropout.py` wrote the file.
  struct Golden: Decodable, Sendable {
    struct Sizes: Decodable, Sendable {
      let imageSize, patchSize, width, layers, headWidth, embedDim: Int

      private enum CodingKeys: String, CodingKey {
        case width, layers
        case imageSize = "image_size"
        case patchSize = "patch_size"
        case headWidth = "head_width"
        case embedDim = "embed_dim"
      }
    }
    struct Case: Decodable, Sendable {
      let name: String
      let patchDropout: Double
      /// The tokens of each image, in rising order; 0 is the class token.
      let kept: [[Int]]
      let features: [Double]
      /// By open_clip's names within the tower.
      let gradients: [String: [Double]]

      private enum CodingKeys: String, CodingKey {
        case name, kept, features, gradients
        case patchDropout = "patch_dropout"
      }
    }
    let sizes: Sizes
    let images: Int
    let cases: [Case]
  }

  private static func golden() throws -> Golden {
    let file = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "Fixtures/patch_dropout/patch_dropout.json")
    return try JSONDecoder().decode(Golden.self, from: Data(contentsOf: file))
  }

  /// The rule of the generator: element `element` of the tensor `number`, a multiple of 1/256.
  private static func values(_ count: Int, _ number: Int, offset: Double = 0) -> [Double] {
    (0..<count).map { offset + Double(($0 * 37 + number * 101) % 127 - 63) / 256 }
  }

  @Test func theFileHasCases() throws {
    let golden = try Self.golden()
    #expect(golden.cases.map { $0.kept[0].count } == [6, 2, 9])
  }

  @Test func openCLIPsNumbersInDouble() throws { try compare(Double.self) }
  @Test func openCLIPsNumbersInSinglePrecision() throws { try compare(Float.self) }

  private func compare<S: Scalar>(_: S.Type) throws {
    let golden = try Self.golden()
    let sizes = golden.sizes
    try #require(!golden.cases.isEmpty)
    for one in golden.cases {
      var vision = VisionConfig(
        imageSize: sizes.imageSize, patchSize: sizes.patchSize, width: sizes.width, layers: sizes.layers,
        headWidth: sizes.headWidth)
      vision.patchDropout = one.patchDropout
      let config = CLIPConfig(
        embedding: sizes.embedDim, vision: vision,
        text: TextConfig(contextLength: 4, vocabularySize: 5, width: 3, heads: 1, layers: 1))
      #expect(vision.trainedTokens == one.kept[0].count, "\(one.name)")
      let model = CLIP<S>(config)
      let entries = model.parameters.entries.filter { $0.name.hasPrefix("visual.") }
      try #require(Set(entries.map { String($0.name.dropFirst("visual.".count)) }) == Set(one.gradients.keys))
      for (number, entry) in entries.sorted(by: { $0.name < $1.name }).enumerated() {
        let isNorm = entry.name.contains(".ln_") && entry.name.hasSuffix("weight")
        let value = model.parameters.value(of: entry)
        for (at, element) in Self.values(value.count, number, offset: isNorm ? 1 : 0).enumerated() {
          value[at] = S(element)
        }
      }
      let shape = Shape(golden.images, 3, sizes.imageSize, sizes.imageSize)
      let images = Tensor<S>(shape, Self.values(shape.count, 101).map { S($0) })
      let kept = one.kept.flatMap { $0 }
      let features = model.visual.forward(images, kept: kept[...], mode: .training, observe: nil)
      let weights = Self.values(features.count, 102).map { S($0) }
      model.visual.backward(Tensor(features.shape, weights))
      // A gradient takes twice as many roundings as a feature, and sums over the images.
      let tolerance = S.roundoff * SmallModels.roundings(config) * Double(2 * golden.images)
      let forward = Deviation(features.array, from: one.features)
      #expect(forward.relative <= S.roundoff * SmallModels.roundings(config), "\(one.name): \(forward)")
      for entry in entries {
        let expected = try #require(one.gradients[String(entry.name.dropFirst("visual.".count))])
        let found = model.parameters.gradient(of: entry)
        let deviation = Deviation(found.array, from: expected)
        #expect(deviation.relative <= tolerance, "\(one.name), \(entry.name): \(deviation)")
      }
    }
  }
}
