import Foundation
import TestSupport
import Testing

/// File systems that may only be read, and files that another process has locked.
@Suite struct ReadOnlyTests {
  let scene: TrainScene

  init() async throws {
    scene = try await TrainScene()
    try await scene.train("run", ["steps=2"], ranks: 2)
  }

  private var run: String { scene.runFolder("run").path }
  private var evaluation: [String] {
    ["evaluate", "retrieval", "--candidates", "distinct-captions", "--checkpoint", run, "--dataset", scene.dataset]
  }

  /// Root may write anywhere, unless it gives that up.
  private func unprivileged(_ arguments: [String]) async throws -> MPIRun {
    let drop = geteuid() == 0 ? ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] : []
    return try await MPIRun.execute(
      drop + ["mpirun", "--oversubscribe", "-n", "2", MPIRun.path(of: "kinship")] + arguments, ranks: 2)
  }

  private func change(_ mode: String, _ paths: [String]) async throws {
    let result = try await MPIRun.execute(["chmod", "-R", mode] + paths)
    try #require(result.status == 0, "\(result)")
  }

  @Test func readsWhatMayNotBeWritten() async throws {
    try await change("a-w", [run, scene.dataset])
    let evaluated = try await unprivileged(evaluation)
    let merged = try await unprivileged(["merge", run, "-o", scene.folder.path("model.h5")])
    let within = try await unprivileged(["merge", run, "-o", run + "/model.h5"])
    let resumed = try await unprivileged(["train", scene.runFile, "--set", "name=run", "--resume", "latest"])
    let aside = try await unprivileged(
      ["train", scene.runFile, "--set", "name=other", "--set", "steps=4", "--resume", run])
    try await change("u+w", [run, scene.dataset])
    #expect(evaluated.status == 0, "\(evaluated)")
    #expect(merged.status == 0, "\(merged)")
    #expect(
      within.status == 74 && within.errors.contains("model.h5") && within.errors.contains("ermission"), "\(within)")
    #expect(resumed.status == 74 && resumed.errors.contains("cannot create \(run)/.lock: Perm"), "\(resumed)")
    #expect(aside.status == 0 && aside.output.contains("going on after step 2"), "\(aside)")
  }

  /// Locks fail on many networked file systems, so none are taken, unless the user wants them.
  @Test func locksOfOthersMatterOnlyToWhoWantsLocks() async throws {
    let files = [scene.dataset, run + "/checkpoints/latest"].flatMap { folder in
      ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter { $0.hasSuffix(".h5") }
        .map { "\(folder)/\($0)" }
    }
    #expect(files.count == 5)
    let script = """
      number=10
      for file in $FILES; do eval "exec $number<$file"; flock -x $number; number=$((number + 1)); done
      exec "$@"
      """
    func locked(_ setting: String) async throws -> MPIRun {
      try await MPIRun.execute(
        ["bash", "-c", script, "bash", MPIRun.path(of: "kinship")] + evaluation,
        ["FILES": files.joined(separator: " "), "HDF5_USE_FILE_LOCKING": setting])
    }
    for setting in ["", "FALSE"] {
      let free = try await locked(setting)
      #expect(free.status == 0, "\(setting): \(free)")
    }
    let bound = try await locked("TRUE")
    #expect(bound.status == 74 && bound.errors.contains("unable to lock file"), "\(bound)")
    #expect(bound.errors.contains("set HDF5_USE_FILE_LOCKING=FALSE"), "\(bound)")
  }
}
