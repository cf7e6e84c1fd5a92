import Foundation
import TestSupport
import Testing

@testable import Launch

/// A teacher whose embeddings `kinship precompute` stores: 23 images with two captions each, two views of each image,
/// and parts of five samples.
final class CacheScene: Sendable {
  let teacher: TeacherScene
  var scene: TrainScene { teacher.scene }
  /// The number of parts of a cache, and of samples in all but the last.
  static let parts = 5

  init() async throws { teacher = try await TeacherScene() }

  func path(_ cache: String) -> String { scene.folder.path("caches/\(cache)") }

  /// The folder of the scene's dataset in a cache.
  func folder(_ cache: String) -> String { path(cache) + "/corpus" }

  /// Returns the values with which a run uses a cache.
  func settings(_ cache: String) -> [String] {
    [
      "teacher=\"\(teacher.teacher)\"", TeacherScene.objective, "data.views=2", "teacher.cache=\"\(path(cache))\"",
      "teacher.cache.part=5",
    ]
  }

  /// Runs `kinship precompute` with these values set last.
  func run(_ cache: String, _ values: [String] = [], ranks: Int?) async throws -> MPIRun {
    try await MPIRun.kinship(
      ["precompute", scene.runFile] + (settings(cache) + values).flatMap { ["--set", $0] }, ranks: ranks)
  }

  @discardableResult
  func precompute(_ cache: String, _ values: [String] = [], ranks: Int?) async throws -> MPIRun {
    let run = try await run(cache, values, ranks: ranks)
    try #require(run.status == 0, "\(run)")
    return run
  }

  /// Returns the files of a cache with their bytes.
  func files(_ cache: String) throws -> [String: Data] {
    let names = try FileManager.default.contentsOfDirectory(atPath: folder(cache))
    return Dictionary(
      uniqueKeysWithValues: names.map { ($0, FileManager.default.contents(atPath: "\(folder(cache))/\($0)") ?? Data()) }
    )
  }

  /// Trains a student from a cache, and returns the loss of every step.
  func train(_ name: String, from cache: String, _ values: [String] = [], ranks: Int? = nil) async throws -> [Double] {
    try await scene.train(name, settings(cache) + values, ranks: ranks)
  }
}
