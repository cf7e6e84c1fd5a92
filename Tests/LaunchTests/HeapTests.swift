import Foundation
import Tensor
import TestSupport
import Testing

/// From the fourth step on training asks the heap for no block beyond 4 KiB: counted in real runs, rank by rank.
@Suite struct HeapTests {
  /// Runs with a log line every third step, of which those of steps 3 and 9 are the window's ends, and demands that
  /// there is nothing in it by code of ours.
  private func demandNothing(_ heap: HeapCount, ranks: Int, _ run: ([String], [String: String]) async throws -> MPIRun)
    async throws
  {
    let values = [
      "name=counted", "steps=12", "log={every: 3, tensorboard: false}", "checkpoint.every=none", "data.workers=1",
    ]
    let found = try await run(values, heap.environment(from: 3, to: 9))
    try #require(found.status == 0, "\(found)")
    let processes = try heap.processes().filter { $0.program == "kinship" }
    #expect(processes.count == ranks)
    for (_, places) in processes {
      let own = places.filter { $0.owner == "kinship" }
      let within = own.filter { $0.isWithin && !$0.isForTypes }
      #expect(
        within.isEmpty,
        "\(within.map(\.description).joined(separator: "\n")): addr2line -e kinship shows the lines")
      // Outside of the window there is much, and within it libraries decode images: so both are seen.
      #expect(own.contains { !$0.isWithin && $0.bytes > 1 << 16 })
      #expect(places.contains { $0.isWithin && $0.owner.hasPrefix("libpng") })
    }
  }

  /// Images of many sizes, all larger than 4 KiB.
  private func images(_ scene: TrainScene) async throws -> String {
    var table = "filepath,title\n"
    for index in 0..<11 {
      var random = KeyedRandom(seed: 12, purpose: "large picture", UInt64(index))
      let (width, height) = (random.below(60) + 50, random.below(60) + 50)
      let rgb = (0..<3 * width * height).map { _ in UInt8(random.below(256)) }
      try scene.folder.write("large/\(index).png", PNGImage.encode(width: width, height: height, rgb: rgb))
      table += "large/\(index).png,\(Array(repeating: "red", count: 1 + index % 5).joined(separator: " "))\n"
    }
    try scene.folder.write("large.csv", table.utf8)
    let dataset = scene.folder.path("large-corpus")
    let imported = try await MPIRun.kinship(
      ["dataset", "import", scene.folder.path("large.csv"), "--output", dataset, "--caption-columns", "title"],
      ranks: nil
    )
    try #require(imported.status == 0, "\(imported)")
    return dataset
  }

  /// More than 512 pairs: lists of a number for each exceed 4 KiB. Every step but a few begins another epoch.
  @Test func manyPairs() async throws {
    let scene = try await TrainScene()
    try await demandNothing(HeapCount(), ranks: 1) { values, environment in
      try await scene.run(
        values + ["batch.global=601", "data.datasets=[{path: \"\(scene.dataset)\", weight: 30}]"], ranks: 1,
        environment: environment)
    }
  }

  /// On two ranks of different pairs, with a live teacher that has words and images of its own, and all terms.
  @Test func aStudentOnTwoRanks() async throws {
    let scene = try await TeacherScene()
    let objective = "objective={preset: intra, fd: 20, icl: 1, affinity: 1, gd: 1, afd: 1, cross_kd: 1}"
    try await demandNothing(HeapCount(), ranks: 2) { values, environment in
      try await scene.scene.run(
        values + [
          "teacher=\"\(scene.teacher)\"", objective, "batch.global=701",
          "data.datasets=[{path: \"\(scene.scene.dataset)\", weight: 100}]",
        ], ranks: 2, environment: environment)
    }
  }

  /// With one tower and a part of the other frozen, and an average of the weights.
  @Test func aFrozenTowerAndAnAverage() async throws {
    let scene = try await TrainScene()
    try await demandNothing(HeapCount(), ranks: 2) { values, environment in
      try await scene.run(
        values + [
          "freeze=[visual, transformer.resblocks.0]", "ema=0.9", "batch.global=601",
          "data.datasets=[{path: \"\(scene.dataset)\", weight: 30}]",
        ], ranks: 2, environment: environment)
    }
  }

  /// The ResNet's widest norms have two numbers for each of 384 columns, the transformer's one for each of 544: more
  /// than 4 KiB in Double.
  static let towers = [
    "sync_bn: true, vision_cfg: {image_size: 32, layers: [1, 1, 2, 1], width: 12, head_width: 32}",
    "vision_cfg: {image_size: 48, patch_size: 8, width: 544, layers: 1, head_width: 32}",
  ]

  @Test(arguments: towers) func pieces(vision: String) async throws { try await pieces(vision, "fp32") }

  @Test(.bfloat16Products, arguments: towers) func piecesOfRoundedProducts(vision: String) async throws {
    try await pieces(vision, "bf16")
  }

  /// Pieces of towers that run their blocks again. Captions are of one length: oneDNN makes code for every other.
  private func pieces(_ vision: String, _ precision: String) async throws {
    let scene = try await TrainScene()
    let dataset = try await images(scene)
    let text = "text_cfg: {context_length: 3, vocab_size: 0, width: 32, heads: 2, layers: 2}"
    try await demandNothing(HeapCount(), ranks: 2) { values, environment in
      try await scene.run(
        values + [
          "model={embed_dim: 16, \(vision), \(text)}",
          "batch={global: 29, micro_batch_size: 6, activation_checkpointing: blocks}",
          "precision=\(precision)",
          "data.datasets=[{path: \"\(dataset)\", weight: 5}]",
        ], ranks: 2, environment: environment)
    }
  }
}
