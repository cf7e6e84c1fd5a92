import Foundation
import TestSupport
import Testing

/// Tests the losses of `kinship train` in real jobs, on any number of ranks and with micro-batches.
@Suite struct TrainTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  /// The losses that this program computed for the scene's run. The kernels of other processors round differently.
  static let reference = [
    4.00936048, 4.61431933, 2.16758830, 2.42488230, 2.39026221, 2.03769544, 1.95249978, 1.95814254, 1.84975529,
    2.03961164,
  ]

  @Test func tenLossesOnAnyNumberOfRanks() async throws {
    let alone = try await scene.train("on1", ranks: 1)
    #expect(difference(alone, Self.reference) < 1e-5, "\(alone)")
    for ranks in [2, 3] {
      let losses = try await scene.train("on\(ranks)", ranks: ranks)
      #expect(difference(losses, alone) < 1e-5, "\(ranks): \(losses), alone \(alone)")
    }
  }

  @Test func piecesGiveTheLossesOfTheWhole() async throws {
    let whole = try await scene.train("whole", ranks: 1)
    // 7 = 3 + 3 + 1; on two ranks 3 = 2 + 1 and 4 = 2 + 2.
    for (microBatchSize, ranks) in [(3, 1), (2, 2)] {
      let pieces = try await scene.train(
        "pieces\(microBatchSize)", ["batch.micro_batch_size=\(microBatchSize)"], ranks: ranks)
      #expect(difference(pieces, whole) < 1e-5, "\(microBatchSize): \(pieces), \(whole)")
    }
  }

  @Test func dryRunWritesNothing() async throws {
    for ranks in [1, 2] {
      let run = try await scene.run([], ["--dry-run"], ranks: ranks)
      #expect(run.status == 0, "\(run)")
      for words in [
        "run tiny  \(ranks) rank", "corpus 23 images; 23 samples an epoch", "steps  10 of 7 pairs", "3 an epoch",
        "16 px in patches of 8", "memory about",
      ] { #expect(run.output.contains(words), "\(words) in \(run)") }
      #expect(run.output.components(separatedBy: "model  ").count == 2, "one rank speaks: \(run)")
      #expect(!FileManager.default.fileExists(atPath: scene.folder.path("runs")))
    }
  }

  /// At learning rate 0 and with all samples in every step, only crops, colours and captions can change the loss.
  @Test func whatImagesAndCaptionsAreShown() async throws {
    let still = [
      "batch.global=23", "optimizer.learning_rate=1e-30", "optimizer.weight_decay=0", "steps=4", "data.captions=first",
    ]
    func losses(_ name: String, _ values: String...) async throws -> [Double] {
      try await scene.train(name, still + values, ranks: nil)
    }
    func same(_ one: Double, _ other: Double) -> Bool { abs(one - other) < 1e-6 * abs(other) }

    let once = try await losses("once", "data.views=1")
    #expect(once.dropFirst().allSatisfy { same($0, once[0]) }, "one view: \(once)")
    let two = try await losses("two", "data.views=2")
    #expect(same(two[0], two[2]) && same(two[1], two[3]) && !same(two[0], two[1]), "two views: \(two)")
    #expect(same(two[0], once[0]), "the first view is the same one")
    let ever = try await losses("ever", "data.views=0")
    #expect(Set(ever.map { Int($0 * 1e5) }).count == 4, "always others: \(ever)")
    #expect(same(ever[0], once[0]) && same(ever[1], two[1]))

    let random = try await losses("random", "data.views=1", "data.captions=random")
    #expect(random.dropFirst().allSatisfy { same($0, random[0]) } && !same(random[0], once[0]), "\(random)")
    let gray = try await losses("gray", "data.views=1", "image.grayscale=1")
    #expect(gray.dropFirst().allSatisfy { same($0, gray[0]) } && !same(gray[0], once[0]), "\(gray)")
    let jitter = try await losses(
      "jitter", "data.views=1", "image.color_jitter={brightness: 0.4, hue: 0.3, probability: 1}")
    #expect(jitter.dropFirst().allSatisfy { same($0, jitter[0]) } && !same(jitter[0], once[0]), "\(jitter)")
    let never = try await losses("never", "data.views=1", "image.color_jitter={brightness: 0.4, hue: 0.3}")
    #expect(never == once, "a probability of 0 changes nothing")
    let other = try await losses("other", "data.views=1", "data.seed=1")
    #expect(!same(other[0], once[0]), "other crops: \(other)")
  }
}
