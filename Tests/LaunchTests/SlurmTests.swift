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

  /// Each job of the array takes its own values, and a comma within brackets belongs to a value.
  @Test func aSweepIsAnArray() async throws {
    let folder = try TemporaryFolder()
    let run = try await batch([
      "--sweep", "optimizer.learning_rate=1e-3,5e-4", "--sweep", "objective.fd=[{step: 0, value: 1}],3", "--at-once",
      "2", "--output", "sweeps/mine", "--dry-run", "train", "a run.yaml", "--resume", "auto",
    ])
    #expect(run.status == 0, "\(run)")
    for line in [
      "#SBATCH --array=0-3%2\n", "# sbatch --dependency=afterany:JOB\n", "scripts/sweep-table sweeps/mine \n",
      #"scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}""#,
    ] { #expect(run.output.contains(line), "\(line) in \(run)") }
    let job = try folder.write("job", run.output.utf8)
    let srun = try folder.write(
      "srun",
      #"""
      #!/bin/sh
      printf '%s\n' "$@"
      """#.utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: srun)
    let path = try #require(ProcessInfo.processInfo.environment["PATH"])
    for (index, rate, weight, name) in [
      (0, "1e-3", "[{step: 0, value: 1}]", "a_run-learning_rate-1e-3-fd-__step__0__value__1__"),
      (3, "5e-4", "3", "a_run-learning_rate-5e-4-fd-3"),
    ] {
      let started = try await MPIRun.execute(
        ["bash", job], ["PATH": "\(folder.url.path):\(path)", "SLURM_ARRAY_TASK_ID": "\(index)"])
      let words = started.output.split(separator: "\n").map(String.init)
      let values = ["name=\(name)", "output=sweeps/mine", "optimizer.learning_rate=\(rate)", "objective.fd=\(weight)"]
      let expected = ["train", "a run.yaml", "--resume", "auto"] + values.flatMap { ["--set", $0] }
      #expect(started.status == 0 && Array(words.suffix(expected.count)) == expected, "\(started)")
    }
    for (arguments, words) in [
      (["--sweep", "name=a,b", "train", "run.yaml"], "name is the sweep's own to set"),
      (["--sweep", "seed=1,,2", "train", "run.yaml"], "--sweep seed: a value is empty"),
      (["--sweep", "seed=1,1", "train", "run.yaml"], "two runs would have the name run-seed-1"),
      (["--sweep", "seed=1", "--sweep", "seed=2", "train", "run.yaml"], "seed is given twice"),
      (["--sweep", "seed", "train", "run.yaml"], "expected KEY=V1,V2, found 'seed'"),
      (["--sweep", "seed=1", "evaluate", "retrieval"], "expected the command train with a run file"),
      (["--sweep", "seed=1", "train", "run.yaml", "--set", "name=mine"], "leave out 'name=mine'"),
      (["--at-once", "2", "train", "run.yaml"], "--at-once is for --sweep and for a study"),
      (["--sweep", "seed=\((1...1001).map(String.init).joined(separator: ","))", "train", "run.yaml"], "at most 1000"),
    ] {
      let refused = try await batch(["--dry-run"] + arguments)
      #expect(refused.status == 64 && refused.errors.contains(words), "\(arguments): \(refused)")
    }
  }

  @Test func aStudyIsThreeJobs() async throws {
    let folder = try TemporaryFolder()
    let plan = try writePlan(in: folder, recipe: folder.write("recipe.yaml", "name: mine\n".utf8), dataset: "data/none")
    let run = try await batch([
      "--ranks", "2", "--at-once", "3", "--time", "1:00:00", "--dry-run", "study", plan, "--seeds", "1-2",
    ])
    #expect(run.status == 0, "\(run)")
    for line in [
      "#SBATCH --signal=B:USR1@120 ", "scripts/study --ranks 2 \(plan) --seeds 1-2 --prepare &\n",
      "# sbatch --dependency=afterok:JOB --kill-on-invalid-dep=yes\n", "#SBATCH --array=1,2,3,4%3\n",
      "scripts/study --ranks 2 \(plan) --seeds 1-2 --task \"$SLURM_ARRAY_TASK_ID\" &\n",
      "# sbatch --dependency=afterany:JOB\n", "scripts/study \(plan) --seeds 1-2 --collect\n",
    ] { #expect(run.output.contains(line), "\(line) in \(run)") }
    let check = try await MPIRun.execute(["bash", "-n", try folder.write("jobs", run.output.utf8)])
    #expect(check.status == 0, "\(check)")
    for (arguments, status, words) in [
      (["study"], 64, "expected a plan"), (["study", plan, "--table"], 64, "--table is not for here"),
      (["study", plan, "--only", "none"], 64, "there is no arm none"),
      (["study", folder.path("none.yaml")], 74, "cannot read"),
    ] {
      let refused = try await batch(["--dry-run"] + arguments)
      #expect(refused.status == status && refused.errors.contains(words), "\(arguments): \(refused)")
    }
  }

  /// A plan of two arms, of which the second differs by a setting that every recipe has. Returns its path.
  private func writePlan(in folder: TemporaryFolder, recipe: String, dataset: String) throws -> String {
    try folder.write(
      "plan.yaml",
      """
      recipe: \(recipe)
      steps: 4
      seeds: 1
      baseline: base
      arms:
        base: [objective.preset=clip]
        still: [optimizer.learning_rate=1e-9]
      development: {tiny: {dataset: \(dataset)}}

      """.utf8)
  }

  /// Runs `launch-slurm` on two hosts with Slurm, and returns when all of its jobs have ended.
  private func submit(_ arguments: [String], output: String) async throws -> MPIRun {
    let environment = [
      "env", "KINSHIP=\(try MPIRun.path(of: "kinship"))", "SBATCH_FLAGS=--output=\(output) --wait",
    ]
    return try await VirtualCluster.run(2, ["--slurm"], environment + [Self.script] + arguments, ranks: 2)
  }

  @Test(.requires(.slurm)) func aSweepEndsInOneTable() async throws {
    let scene = try await TrainScene()
    let straight = try await scene.train("straight", ["optimizer.learning_rate=1e-3", "seed=2"], ranks: nil)
    let run = try await submit(
      [
        "--sweep", "optimizer.learning_rate=1e-3,5e-4", "--sweep", "seed=1,2", "--output", scene.folder.path("runs"),
        "train", scene.runFile, "--resume", "auto",
      ], output: scene.folder.path("slurm.out"))
    let text = (try? String(contentsOfFile: scene.folder.path("slurm.out"), encoding: .utf8)) ?? ""
    #expect(run.status == 0 && run.output.hasSuffix("runs/table.md\n"), "\(run)\n\(text)")
    #expect(difference(try scene.losses("run-learning_rate-1e-3-seed-2"), straight) < 1e-5, "\(run)\n\(text)")
    let table = try String(contentsOfFile: scene.folder.path("runs/table.md"), encoding: .utf8)
    for row in ["1e-3 | 1", "1e-3 | 2", "5e-4 | 1", "5e-4 | 2"] {
      #expect(table.contains("\n| \(row) | 10 of 10 | "), "\(table)\n\(text)")
    }
    struct Table: Decodable {
      struct Run: Decodable { let name: String, values: [String: String], loss: Double }
      let runs: [Run]
    }
    let runs = try JSONDecoder().decode(
      Table.self, from: Data(contentsOf: URL(filePath: scene.folder.path("runs/table.json")))
    ).runs
    let found = try #require(runs.first { $0.name == "run-learning_rate-1e-3-seed-2" }, "\(table)")
    #expect(found.values == ["optimizer.learning_rate": "1e-3", "seed": "2"])
    #expect(difference([found.loss], straight.suffix(1)) < 1e-5, "\(table)")
  }

  @Test(.requires(.slurm)) func aStudyEndsInItsOwnTable() async throws {
    let scene = try await TrainScene()
    let plan = try writePlan(in: scene.folder, recipe: scene.runFile, dataset: scene.dataset)
    let run = try await submit(
      ["study", plan, "--runs", scene.folder.path("runs")], output: scene.folder.path("slurm.out"))
    let text = (try? String(contentsOfFile: scene.folder.path("slurm.out"), encoding: .utf8)) ?? ""
    #expect(run.status == 0, "\(run)\n\(text)")
    let table = try String(contentsOfFile: scene.folder.path("plan.results.md"), encoding: .utf8)
    #expect(table.contains("| `base` | 1 | ") && table.contains("| `still` | 1 | "), "\(table)\n\(text)")
    let results = try String(contentsOfFile: scene.folder.path("plan.results.jsonl"), encoding: .utf8)
    #expect(results.split(separator: "\n").count == 2, "\(results)\n\(text)")
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
