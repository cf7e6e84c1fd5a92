import Foundation
import TestSupport
import Testing

@testable import Dist
@testable import Launch

/// Any failure ends a run with a message and no process left behind, and the resumed run has the losses of an
/// undisturbed one.
@Suite struct FailureTests {
  let scene: TrainScene
  /// The run is long enough for every disturbance.
  static let endless = ["steps=1_000_000", "optimizer.schedule=constant"]
  static let constant = ["optimizer.schedule=constant"]

  init() async throws { scene = try await TrainScene() }

  private func check(_ run: MPIRun, status: Int, _ words: String...) {
    #expect(run.status == status, "\(run)")
    for word in words {
      #expect(run.errors.contains(word) || run.output.contains(word), "“\(word)” is not in \(run)")
    }
    #expect(run.leftBehind.isEmpty)
  }

  /// One run loses a rank again and again: during computation, while the rank waits in a collective, and during a save.
  /// In the end a rank is stopped, which looks like a silent network link.
  @Test(arguments: [2, 3]) func killedRanks(ranks: Int) async throws {
    let values = Self.endless + ["checkpoint.every=2"]
    let watched = values + ["watchdog.deadline=4"]
    let last = ranks - 1
    let computing = try await scene.disturb("killed", values, ranks: ranks, "steps 5\nall KILL \(last)")
    check(computing, status: 137)

    let again = ["--resume", "auto"]
    // The watchdog reports that the others wait for the stopped rank, and ends the job only a moment later.
    let waiting = try await scene.disturb(
      "killed", watched, again, ranks: ranks, "steps 5\nall STOP \(last)\nsaid '(inside)'\nall KILL 0")
    check(waiting, status: 137, "going on after step", "is taken over from process ", ": that process has gone")

    let saving = try await scene.disturb(
      "killed", values, again, ranks: ranks,
      """
      steps 5
      everyone=$(processes)
      while "$AWAIT" match "$RUN/checkpoints" .partial --while $job; do
        kill -STOP $everyone
        # Rank 0 may still publish before the signal reaches it, but not when it is killed later.
        "$AWAIT" stopped $everyone
        if compgen -G "$RUN/checkpoints/*.partial" >/dev/null; then break; fi
        kill -CONT $everyone
      done
      all KILL 0
      """)
    check(saving, status: 137, "going on after step")
    let checkpoints = try FileManager.default.contentsOfDirectory(
      atPath: scene.runFolder("killed").appending(path: "checkpoints").path)
    #expect(checkpoints.contains { $0.hasSuffix(".partial") })

    let silent = try await scene.disturb("killed", watched, again, ranks: ranks, "steps 5\nall STOP \(last)")
    check(silent, status: 77, "no progress for ", "the watchdog ends the job")
    #expect(!silent.errors.contains("kinship: rank \(last) of"), "\(silent)")
    #expect(!FileManager.default.fileExists(atPath: scene.runFolder("killed").appending(path: FolderLock.file).path))
    try await scene.expectTheSameLosses("killed", Self.constant + ["checkpoint.every=2"], ranks: ranks)
  }

  /// The shipped script gives the ranks the time to save that mpirun does not, even if the script itself is killed.
  /// Without it, mpirun's kill loses the steps since the last checkpoint.
  @Test func launchersThatAreStopped() async throws {
    let values = Self.endless + ["checkpoint.every=50"]
    let again = ["--resume", "auto"]
    let asked = try await scene.disturb(
      "stopped", values, ranks: 2, by: TrainScene.launcher, "steps 5\nkill -TERM $job")
    check(asked, status: 75, "stopped by SIGUSR1 after step")
    #expect(!asked.errors.contains("non-zero") && !asked.errors.contains("-----"), "what mpirun adds: \(asked)")

    let killed = try await scene.disturb(
      "stopped", values, again, ranks: 2, by: TrainScene.launcher, "steps 5\nkill -KILL $job")
    check(killed, status: 137, "stopped by SIGUSR1 after step")

    let bare = try await scene.disturb("stopped", values, again, ranks: 2, "steps 5\nkill -TERM $job")
    #expect(bare.status != 0 && bare.leftBehind.isEmpty, "\(bare)")
    let outright = try await scene.disturb("stopped", values, again, ranks: 2, "steps 5\nkill -KILL $job")
    check(outright, status: 137)
    try await scene.expectTheSameLosses("stopped", Self.constant + ["checkpoint.every=50"], ranks: 2)
  }

  /// The resumed run repeats an evaluation that was interrupted.
  @Test func signalDuringAnEvaluation() async throws {
    let evaluation = "{kind: retrieval, dataset: \"\(scene.dataset)\"}"
    let count = 60
    let list = Array(repeating: evaluation, count: count).joined(separator: ", ")
    let values = ["steps=4", "evaluate.evaluations=[\(list)]"]
    let run = try await scene.disturb("measured", values, ranks: 2, "logged evaluation\nkill -USR1 $job")
    check(run, status: 75, "stopped by SIGUSR1 after step 4")
    let before = try scene.log("measured", "evaluation")
    #expect(!before.isEmpty && before.count < count)
    let losses = try await scene.train("measured", values, ["--resume", "latest"], ranks: 2)
    #expect(losses.count == 4)
    let after = try scene.log("measured", "evaluation").dropFirst(before.count)
    #expect(after.count == count && after.allSatisfy { $0.step == 4 && $0.figures == before[0].figures })
    // A complete evaluation is not repeated.
    try await scene.train("measured", values, ["--resume", "latest"], ranks: 2)
    #expect(try scene.log("measured", "evaluation").count == before.count + count)
  }

  /// The last step before a stop is in the log, even if the log has a line only every few steps.
  @Test func theLastStepIsLogged() async throws {
    let run = try await scene.disturb(
      "rare", Self.endless + ["log.every=100_000", "checkpoint.every=5"], ranks: 2,
      "exists \"$RUN/checkpoints/latest\"\nkill -USR1 $job")
    check(run, status: 75, "stopped by SIGUSR1 after step")
    let lines = try scene.log("rare", "step")
    #expect(lines.count == 1)
    #expect(FileManager.default.fileExists(atPath: scene.checkpoint("rare", lines[0].step).path))
  }

  /// The disk is full, or a shard shrinks during the run.
  @Test func filesThatFail() async throws {
    let values = Self.endless + ["checkpoint.every=20", "log.every=1_000"]
    let full = try await scene.disturb(
      "files", values, ranks: 2,
      """
      exists "$RUN/checkpoints/latest"
      for r in $ranks; do prlimit --pid "$(rank $r)" --fsize=20000; done
      """)
    check(full, status: 74, "checkpoint ", "step-000000", "H5Fclose failed for", "file write failed: File too large\n")

    let shard = scene.dataset + "/shard-00001.h5"
    let whole = try Data(contentsOf: URL(filePath: shard))
    let cut = try await scene.disturb(
      "files", values, ["--resume", "auto"], ranks: 2,
      """
      logged start
      truncate --size=2000 "\(shard)"
      """)
    check(cut, status: 65, "shard-00001.h5: ends within the image of ")
    let lost = try await scene.run(["name=files"] + values, ["--resume", "auto"], ranks: 2)
    check(lost, status: 65, "shard-00001.h5")
    try whole.write(to: URL(filePath: shard))
    try await scene.expectTheSameLosses("files", Self.constant + ["checkpoint.every=20", "log.every=1"], ranks: 2)
  }

  /// Ranks with different builds would not compute the same numbers.
  @Test func otherProgramsOnOtherRanks() async throws {
    let program = URL(filePath: try MPIRun.path(of: "kinship"))
    // The copy has one more byte at its end, which does not change the program.
    let other = scene.folder.url.appending(path: "kinship")
    try (Data(contentsOf: program) + [0]).write(to: other)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: other.path)
    let commands = [program, other, other].map { [$0.path, "train", scene.runFile] }
    let run = try await MPIRun.execute(MPIRun.ranks(commands), ranks: 3)
    check(run, status: 65, "kinship: ranks 1, 2 on ", " have a different program than rank 0")
    #expect(run.errors.ranges(of: "have a different program").count == 1, "\(run)")
    #expect(!FileManager.default.fileExists(atPath: scene.folder.path("runs")))
  }

  /// The programs of one package, for different processors, are one build: both are in the package's list.
  @Test func programsOfOnePackage() async throws {
    let program = try Data(contentsOf: URL(filePath: MPIRun.path(of: "kinship")))
    var commands: [[String]] = []
    var list = ""
    for (level, bytes) in [("x86-64-v3", program), ("x86-64-v4", program + [0])] {
      let path = try scene.folder.write("programs/\(level)/kinship", bytes)
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
      commands.append([path, "train", scene.runFile, "--set", "steps=1"])
      list += "\(SHA256.hash(bytes).hexadecimal)  \(level)/kinship\n"
    }
    try scene.folder.write("programs/programs.sha256", list.utf8)
    let run = try await MPIRun.execute(MPIRun.ranks(commands), ranks: 2)
    #expect(run.status == 0, "\(run)")
    // A list that does not have the second program says nothing about it.
    try scene.folder.write("programs/programs.sha256", list.prefix { $0 != "\n" }.utf8)
    let other = try await MPIRun.execute(MPIRun.ranks(commands.map { $0 + ["--set", "name=other"] }), ranks: 2)
    check(other, status: 65, "kinship: rank 1 on ", " has a different program than rank 0")
  }

  /// Some ranks have no row of the batch; one dataset has a single image, and another has none.
  @Test func moreRanksThanRows() async throws {
    let dataset = try Dataset.open(scene.dataset)
    var values = ["batch.global=2", "steps=3"]
    for (name, count) in [("one", 1), ("none", 0)] {
      var writer = try DatasetWriter(name: name, folder: scene.folder.path(name))
      for sample in 0..<count {
        try writer.append(
          DatasetSample(image: dataset.image(sample), captions: dataset.captions(sample), key: dataset.key(sample)))
      }
      _ = try writer.finish()
    }
    for (name, datasets) in [
      ("many", [scene.dataset]), ("few", [scene.folder.path("none"), scene.folder.path("one"), scene.dataset]),
    ] {
      values += ["data.datasets=[\(datasets.map { "\"\($0)\"" }.joined(separator: ", "))]"]
      let alone = try await scene.train("\(name)-alone", values, ranks: nil)
      #expect(difference(try await scene.train(name, values, ranks: 3), alone) < 1e-5)
    }
    let evaluation = "evaluate.evaluations=[{kind: retrieval, dataset: \"\(scene.folder.path("one"))\"}]"
    values += ["data.datasets=[{path: \"\(scene.folder.path("one"))\", weight: 3}]", evaluation]
    let losses = try await scene.train("one", values, ranks: 2)
    #expect(losses.count == 3 && losses.allSatisfy(\.isFinite))
    #expect(try scene.log("one", "evaluation").map { $0.figures?["i2t R@1"] } == [1])
  }

  /// A skipped step changes neither parameters nor running statistics nor masks. Here one weight is not finite during
  /// one step.
  @Test(arguments: [
    ["model.vision_cfg={image_size: 32, layers: [1, 1, 1, 1], width: 4, head_width: 32}", "batch.micro_batch_size=2"],
    ["prune={sparsity: 0.3, step: 4, ramp: 2}"],
  ]) func skippedStepsChangeNothing(model: [String]) async throws {
    let spike = "[{step: 1, value: 1}, {step: 2, value: 1e300}, {step: 3, value: 1}]"
    let run = try await scene.run(
      ["objective={preset: clip, clip: \(spike)}", "steps=5", "checkpoint.every=1", "checkpoint.keep=all"]
        + ["non_finite=skip"] + model, ranks: 2)
    #expect(run.status == 0, "\(run)")
    #expect(run.output.contains("the update is skipped (1 in a row, 1 since the start)"), "\(run)")
    let before = try Checkpoint.open(scene.checkpoint("tiny", 2).path)
    let after = try Checkpoint.open(scene.checkpoint("tiny", 3).path)
    let last = try Checkpoint.open(scene.checkpoint("tiny", 4).path)
    #expect(!before.manifest.record.arrays.isEmpty)
    #expect(after.manifest.record.arrays == before.manifest.record.arrays)
    #expect(last.manifest.record.arrays != before.manifest.record.arrays)
    #expect(try scene.losses("tiny").count == 4 && scene.losses("tiny").allSatisfy(\.isFinite))
  }

  /// The warning about more ranks than cores says what to type.
  @Test func ranksOnOneCore() async throws {
    let bind = "core=$(taskset -pc $$ | sed 's/.*: //; s/[,-].*//'); exec taskset -c $core \"$@\""
    let run = try await MPIRun.execute(
      ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", "2", "bash", "-c", bind, "bash"]
        + [try MPIRun.path(of: "kinship"), "train", scene.runFile, "--dry-run"], ranks: 2)
    #expect(run.status == 0, "\(run)")
    #expect(run.output.contains(/warning: .*ranks share .*core/), "\(run)")
  }

  /// A run in which no step is finite any more ends under every policy.
  @Test(arguments: ["skip", "rewind"]) func nothingFiniteAnyMore(policy: String) async throws {
    let run = try await scene.run(
      [
        "optimizer.learning_rate=1e30", "optimizer.warmup=0", "checkpoint.every=1",
        "non_finite={policy: \(policy), limit: 2}",
      ],
      ranks: 2)
    #expect(run.status == 76, "\(run)")
    let reason = policy == "skip" ? "2 steps in a row were skipped before it" : "back to step 1 2 times already"
    #expect(run.errors.contains("\(reason) (non_finite.limit)"), "\(run)")
    #expect(run.leftBehind.isEmpty)
  }
}
