import Foundation
import TestSupport
import Testing

/// `scripts/launch-slurm`: the batch files that it writes, and what a Slurm on virtual hosts makes of them.
@Suite struct SlurmTests {
  private static let script = URL(filePath: VirtualCluster.script).deletingLastPathComponent()
    .appending(path: "launch-slurm").path

  private func batch(_ arguments: [String]) async throws -> MPIRun {
    try await MPIRun.execute(
      ["env", "KINSHIP=\(try MPIRun.path(of: "kinship"))", Self.script] + arguments)
  }

  @Test func batchFiles() async throws {
    let direct = try await batch(
      ["--ranks", "64", "--nodes", "4", "--threads", "2", "--time", "12:00:00", "--dry-run", "train", "a run.yaml"])
    #expect(direct.status == 0, "\(direct)")
    for line in [
      "#SBATCH --job-name=kinship --ntasks=64 --cpus-per-task=2",
      "#SBATCH --signal=USR1@120 --requeue --open-mode=append", "#SBATCH --nodes=4", "#SBATCH --time=12:00:00",
      "srun --mpi=pmix --cpus-per-task=2 --kill-on-bad-exit=1 ", " train a\\ run.yaml ", "scontrol requeue",
    ] { #expect(direct.output.contains(line), "\(line) in \(direct)") }
    let through = try await batch(["--ranks", "2", "--mpirun", "--dry-run", "train", "run.yaml"])
    for line in ["#SBATCH --signal=B:USR1@120 ", "scripts/launch-mpirun --ranks 2 --threads 1 train run.yaml", "trap "]
    {
      #expect(through.output.contains(line), "\(line) in \(through)")
    }
    // A run that begins again does so once.
    let fresh = try await batch(["--dry-run", "train", "run.yaml", "--resume", "fresh"])
    #expect(fresh.output.contains("[[ ${SLURM_RESTART_COUNT:-0} -eq 0 ]] || resume=auto\n"), "\(fresh)")
    #expect(fresh.output.contains(" train run.yaml --resume \"$resume\" || status=$?\n"), "\(fresh)")
    for run in [direct, through, fresh] {
      let folder = try TemporaryFolder()
      let check = try await MPIRun.execute(["bash", "-n", try folder.write("job", run.output.utf8)])
      #expect(check.status == 0, "\(check)")
    }
    for (arguments, words) in [
      (["--ranks", "none", "train"], "expected a number from 1, found 'none'"),
      (["--fast", "train"], "unknown option"),
      ([], "scripts/launch-slurm [--ranks N]"),
    ] {
      let run = try await batch(arguments)
      #expect(run.status == 64 && run.errors.contains(words), "\(arguments): \(run)")
    }
  }

  /// Trains on two nodes, is told to stop by Slurm, queues itself again, and ends as if nothing had been.
  @Test(.requires(.slurm), arguments: [[], ["--mpirun"]]) func stopsAndGoesOnByItself(way: [String]) async throws {
    let scene = try await TrainScene()
    let straight = try await scene.train("straight", ["steps=60"], ranks: 2)
    let out = scene.folder.path("slurm.out")
    let command = """
      "$SCRIPTS/launch-slurm" --ranks 2 --nodes 2 \(way.joined(separator: " ")) "$@" &
      "$AWAIT" path "$CHECKPOINTS/latest" --while $! || exit
      scancel --signal=USR1 \(way.isEmpty ? "" : "--batch") 1
      wait $!
      scontrol show job 1 | tr ' ' '\\n' | grep -E '^(JobState|Restarts|ExitCode)='
      """
    let arguments = [
      "train", scene.runFile, "--set", "name=slurm", "--set", "steps=60", "--set", "checkpoint.every=5", "--resume",
      "auto",
    ]
    let environment = [
      "env", "KINSHIP=\(try MPIRun.path(of: "kinship"))",
      "SCRIPTS=\(URL(filePath: VirtualCluster.script).deletingLastPathComponent().path)",
      // sbatch returns when the job has ended for good.
      "SBATCH_FLAGS=--output=\(out) --wait", "AWAIT=\(try MPIRun.path(of: "Await"))",
      "CHECKPOINTS=\(scene.checkpoint("slurm", 0).deletingLastPathComponent().path)",
    ]
    let run = try await VirtualCluster.run(
      2, ["--slurm"], environment + ["bash", "-c", command, "bash"] + arguments, ranks: 2)
    let text = (try? String(contentsOfFile: out, encoding: .utf8)) ?? ""
    #expect(run.output.contains("JobState=COMPLETED"), "\(run)\n\(text)")
    #expect(run.output.contains("Restarts=1"), "\(run)\n\(text)")
    #expect(text.contains("going on after step "), "\(run)\n\(text)")
    #expect(difference(try scene.losses("slurm"), straight) < 1e-5, "\(run)\n\(text)")
  }
}
