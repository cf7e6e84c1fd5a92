import Dist
import Foundation
import Tensor
import TestSupport
import Testing

/// Tests that a run resumes from the right checkpoint with the same bits, and which checkpoints it refuses.
@Suite struct TrainResumeTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  /// Copies what a run would have left behind after `step` steps to the folder of another run.
  private func copy(_ name: String, as other: String, until step: Int) throws {
    let files = FileManager.default
    try files.copyItem(at: scene.runFolder(name), to: scene.runFolder(other))
    let later = try files.contentsOfDirectory(atPath: scene.checkpoint(other, 0).deletingLastPathComponent().path)
      .filter { $0 > scene.checkpoint(other, step).lastPathComponent || $0 == "latest" }
    for entry in later {
      try files.removeItem(at: scene.checkpoint(other, 0).deletingLastPathComponent().appending(path: entry))
    }
    for file in ["log.jsonl", "open_clip_model.safetensors", "open_clip_config.json"] {
      try files.removeItem(at: scene.runFolder(other).appending(path: file))
    }
  }

  /// Step 4 lies within an epoch of three steps, and step 6 ends one.
  @Test(arguments: [4, 6]) func goesOnWithTheSameBits(step: Int) async throws {
    let every = "checkpoint.every=\(step)"
    let straight = try await scene.train("straight", [every], ranks: 2)
    try copy("straight", as: "stopped", until: step)
    let resumed = try await scene.run(
      ["name=stopped", every], ["--resume", scene.checkpoint("stopped", step).path], ranks: 2)
    try #require(resumed.status == 0, "\(resumed)")
    #expect(try scene.losses("stopped") == Array(straight.dropFirst(step)))
    #expect(try scene.parts("stopped", 10) == scene.parts("straight", 10))
    #expect(try scene.parts("stopped", 10) != scene.parts("straight", step))
    // Each of two ranks reads the part that it wrote, and no other.
    #expect(resumed.output.contains(" at most, from 1 of 2 parts"), "\(resumed)")
    let starts = try scene.log("stopped", "start")
    #expect(starts.count == 1 && starts[0].step == step)
    #expect(starts[0].changes == ["name: stopped, was straight"])
  }

  @Test func goesOnWithOtherRanks() async throws {
    let straight = try await scene.train("straight", ["checkpoint.every=5"], ranks: 2)
    for ranks in [1, 3] {
      let name = "on\(ranks)"
      try copy("straight", as: name, until: 5)
      let run = try await scene.run(["name=\(name)", "checkpoint.every=5"], ["--resume", "auto"], ranks: ranks)
      #expect(run.status == 0, "\(run)")
      #expect(run.output.contains("will not give the same bits"), "\(run)")
      #expect(run.output.contains("ranks were 2 and are \(ranks)"), "\(run)")
      // Of three ranks the middle one owns the end of one part's share and the beginning of the other's.
      #expect(run.output.contains(" at most, from 2 of 2 parts"), "\(run)")
      #expect(run.output.contains("going on after step 5"), "\(run)")
      #expect(difference(try scene.losses(name), Array(straight.dropFirst(5))) < 1e-5)
    }
  }

  /// A run that goes on with the same arithmetic says nothing; with another one it says both, as do ranks that differ.
  @Test(.betterKernels) func goesOnWithAnotherArithmetic() async throws {
    try await scene.train("tiny", ["steps=2"], ranks: nil)
    func recorded(_ name: String, _ step: Int) throws -> [Arithmetic] {
      try #require(try Checkpoint.open(scene.checkpoint(name, step).path).manifest.record.arithmetic)
    }
    let own = try recorded("tiny", 2)
    #expect(own.count == 1 && own[0].kernels == Arithmetic.currentKernels && own[0].precision == .fp32)
    var other = own[0]
    other.libraries[1].instructions = "Prescott"
    let same = try await scene.run(["steps=3"], ["--resume", "latest"], ranks: nil)
    #expect(same.status == 0 && same.output.contains("\narithmetic \(own.text)\n"), "\(same)")
    #expect(!same.output.contains("the same bits"), "\(same)")
    let run = try await scene.run(
      ["steps=4"], ["--resume", "latest"], ranks: nil, environment: ["OPENBLAS_CORETYPE": "Prescott"])
    #expect(run.status == 0 && run.output.contains("\narithmetic \(other.text)\n"), "\(run)")
    let words = "as a run without interruption: the arithmetic was \(own.text) and is \(other.text)\n"
    #expect(run.output.contains("warning: going on will not give the same bits \(words)"), "\(run)")
    #expect(try recorded("tiny", 4) == [other])

    let program = [try MPIRun.path(of: "kinship"), "train", scene.runFile, "--set", "name=mixed", "--set", "steps=1"]
    let mixed = try await MPIRun.execute(
      ["mpirun", "--oversubscribe", "-n", "1", "env", "OPENBLAS_CORETYPE=Prescott"] + program + [":", "-n", "1"]
        + program, ranks: 2)
    #expect(mixed.status == 0, "\(mixed)")
    let ranks = "\(other.text) on rank 0; \(own.text) on rank 1"
    #expect(mixed.output.contains("warning: ranks differ in their arithmetic (\(ranks)): "), "\(mixed)")
    #expect(try recorded("mixed", 1) == [other, own[0]])
  }

  @Test func damagedCheckpoints() async throws {
    let every = "checkpoint.every=4"
    let straight = try await scene.train("tiny", [every], ranks: 2)
    let whole = try scene.parts("tiny", 10)
    let part = scene.checkpoint("tiny", 10).appending(path: "part-00001-of-00002.h5")
    var bytes = try Data(contentsOf: part)
    bytes[bytes.count / 2] ^= 1
    try bytes.write(to: part)

    let strict = try await scene.run([every], ["--resume", "latest"], ranks: 2)
    #expect(strict.status == 65, "\(strict)")
    #expect(strict.errors.contains("part-00001-of-00002.h5 was altered"), "\(strict)")
    #expect(strict.errors.contains("step-00000010"), "\(strict)")

    let lenient = try await scene.run([every], ["--resume", "auto"], ranks: 2)
    #expect(lenient.status == 0, "\(lenient)")
    #expect(lenient.output.contains("warning: passed over: checkpoint"), "\(lenient)")
    #expect(lenient.output.contains("part-00001-of-00002.h5 was altered"), "\(lenient)")
    #expect(lenient.output.contains("going on after step 8"), "\(lenient)")
    #expect(try scene.losses("tiny") == straight)
    #expect(try scene.parts("tiny", 10) == whole)
  }

  @Test func whatIsRefused() async throws {
    let lost = try await scene.run(["name=new"], ["--resume", "latest"], ranks: 2)
    #expect(lost.status == 74, "\(lost)")
    #expect(lost.errors.contains("new/checkpoints/latest: there is no checkpoint to go on from"), "\(lost)")
    // Nothing is left behind that would prevent a new run.
    try await scene.train("new", ["steps=2"], ["--resume", "auto"], ranks: 2)

    let again = try await scene.run(["name=new", "steps=2"], ranks: 2)
    #expect(again.status == 64, "\(again)")
    #expect(again.errors.contains("holds a run already") && again.errors.contains("--resume latest"), "\(again)")
    #expect(try scene.losses("new").count == 2)

    let past = try await scene.run(["name=new", "steps=1"], ["--resume", "latest"], ranks: 2)
    #expect(past.status == 64, "\(past)")
    #expect(past.errors.contains("2 steps done and the run has 1"), "\(past)")

    let larger = try await scene.run(
      ["name=new", "steps=3", "model.embed_dim=24"], ["--resume", "latest"], ranks: 2)
    #expect(larger.status == 65, "\(larger)")
    #expect(
      larger.errors.contains("parameter visual.proj has the shape [32, 16], the model expects [32, 24]"), "\(larger)")

    // A resumed run may have more steps than before.
    #expect(try await scene.train("new", ["steps=3"], ["--resume", "latest"], ranks: 2).count == 3)
    // The path of a run's folder means its latest checkpoint.
    #expect(try await scene.train("next", ["steps=4"], ["--resume", scene.runFolder("new").path], ranks: 2).count == 1)
  }

  @Test func anotherVocabulary() async throws {
    try await scene.train("tiny", ["steps=2"], ranks: nil)
    let other = scene.folder.path("other.txt.gz")
    let learned = try await MPIRun.kinship(
      ["vocabulary", "train", scene.dataset, "--merges", "20", "--output", other], ranks: nil)
    try #require(learned.status == 0, "\(learned)")
    let run = try await scene.run(["steps=4", "vocabulary=\(other)"], ["--resume", "latest"], ranks: nil)
    #expect(run.status == 65, "\(run)")
    #expect(run.errors.contains("other.txt.gz: is not the vocabulary that"), "\(run)")
  }

  /// A signal stops all ranks after the same step with everything saved, and the resumed run has the same bits.
  @Test(arguments: ["USR1", "TERM"]) func stopsInGoodOrder(signal: String) async throws {
    let set = ["optimizer.schedule=constant", "name=stopped"]
    let train = ["train", scene.runFile] + (set + ["steps=1_000_000"]).flatMap { ["--set", $0] }
    // mpirun forwards SIGUSR1 to its ranks, but kills them soon after a SIGTERM; that signal goes to one rank.
    let script = """
      mpirun --oversubscribe -n 2 sh -c 'echo $$ > "$0.$OMPI_COMM_WORLD_RANK"; exec "$@"' "$PIDS" "$@" &
      "$AWAIT" lines "$LOG" 1 '"step":5,' --while $!
      if [ $SIGNAL = USR1 ]; then kill -USR1 $!; else kill -TERM $(cat "$PIDS.1"); fi
      wait $!
      """
    let run = try await MPIRun.execute(
      ["sh", "-c", script, "sh", try MPIRun.path(of: "kinship")] + train,
      [
        "SIGNAL": signal, "PIDS": scene.folder.path("pid"), "AWAIT": try MPIRun.path(of: "Await"),
        "LOG": scene.runFolder("stopped").appending(path: "log.jsonl").path,
      ], ranks: 2)
    #expect(run.status == 75, "\(run)")
    #expect(run.output.contains("stopped by SIG\(signal) after step"), "\(run)")
    let done = try scene.losses("stopped").count
    #expect(FileManager.default.fileExists(atPath: scene.checkpoint("stopped", done).path))

    let more = ["steps=\(done + 3)", "optimizer.schedule=constant"]
    let all = try await scene.train("stopped", more, ["--resume", "latest"], ranks: 2)
    #expect(all == (try await scene.train("straight", more, ranks: 2)))
    #expect(try scene.parts("stopped", done + 3) == scene.parts("straight", done + 3))
  }
}
