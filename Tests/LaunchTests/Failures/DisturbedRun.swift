import Foundation
import TestSupport
import Testing

@testable import Launch

/// Disturbs a run from outside, by a shell script that runs beside it.
///
/// `$job` is the process that was started, `rank R` prints that of a rank, `processes` prints those of all;
/// `all SIGNAL RANK…` sends a signal. `steps N` waits until this start has logged N steps, `logged EVENT` until it has
/// logged an event, `exists PATH` for a file and `said TEXT` for a line on standard error; each fails when the job ends
/// first. The rest of a script is bash.
extension TrainScene {
  private static let words = """
    set -m
    rm -f "$PIDS".*
    exec 2> >(exec tee "$PIDS.errors" >&2)
    rank() { cat "$PIDS.$1"; }
    processes() { local r; for r in $ranks; do rank "$r"; done; }
    all() { local signal=$1 r; shift; for r in "$@"; do kill -"$signal" "$(rank "$r")"; done; }
    ranks=$(seq 0 $((RANKS - 1)))
    lines() { cat "$RUN/log.jsonl" 2>/dev/null; }
    before=$(lines | wc -l)
    logged() { "$AWAIT" lines "$RUN/log.jsonl" "${2:-1}" '"event":"'"$1"'"' --after "$before" --while "$job"; }
    steps() { logged step "$1"; }
    exists() { "$AWAIT" path "$1" --while "$job"; }
    said() { "$AWAIT" lines "$PIDS.errors" 1 "$1" --while "$job"; }
    # The ranks note their numbers and become the program.
    note='echo $$ > "$PIDS.$OMPI_COMM_WORLD_RANK"; exec "$KINSHIP_PROGRAM" "$@"'
    """

  /// `mpirun` itself.
  static let mpirun = "mpirun --oversubscribe -n $RANKS bash -c \"$note\" bash \"$@\" &"
  /// The launch script for users.
  static let launcher = """
    printf '#!/bin/bash\\n%s\\n' "$note" > "$PIDS.program"; chmod +x "$PIDS.program"
    KINSHIP="$PIDS.program" "$SCRIPTS/launch-mpirun" --ranks $RANKS "$@" &
    """
  /// The launch script that starts the run again whenever it ends.
  static let forever = """
    printf '#!/bin/bash\\n%s\\n' "$note" > "$PIDS.program"; chmod +x "$PIDS.program"
    KINSHIP="$PIDS.program" "$SCRIPTS/run-forever" --pause 0 "$SCRIPTS/launch-mpirun" --ranks $RANKS "$@" &
    """

  static let scripts = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().appending(path: "scripts").path

  /// Runs `kinship train` under a name with values set, and `script` beside it.
  func disturb(
    _ name: String, _ values: [String], _ options: [String] = [], ranks: Int, by launch: String = TrainScene.mpirun,
    _ script: String
  ) async throws -> MPIRun {
    // The ranks may outlive the launcher for a moment.
    let end = """
      wait $job; status=$?
      "$AWAIT" gone $(processes)
      exit $status
      """
    let shell = [Self.words, launch, "job=$!", script, end].joined(separator: "\n")
    return try await MPIRun.execute(
      ["bash", "-c", shell, "bash", "train", runFile] + (["name=\(name)"] + values).flatMap { ["--set", $0] } + options,
      [
        "PIDS": folder.path("pid"), "RUN": runFolder(name).path(percentEncoded: false), "RANKS": "\(ranks)",
        "SCRIPTS": Self.scripts, "KINSHIP_PROGRAM": try MPIRun.path(of: "kinship"),
        "AWAIT": try MPIRun.path(of: "Await"),
      ], ranks: ranks)
  }

  /// Lets the run go on from its newest sound checkpoint for some steps more, and compares all losses in its log with
  /// those of an undisturbed run.
  func expectTheSameLosses(
    _ name: String, _ values: [String] = [], ranks: Int, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let checkpoints = runFolder(name).appending(path: "checkpoints").path
    let names = (try? FileManager.default.contentsOfDirectory(atPath: checkpoints)) ?? []
    let saved = names.compactMap { $0.wholeMatch(of: /step-(\d+)/).flatMap { Int($0.1) } }
    let logged = saved.isEmpty ? [] : try log(name, "step").map(\.step)
    let done = (saved + logged).max() ?? 0
    let values = values + ["steps=\(done + 3)"]
    let losses = try await train(name, values, ["--resume", "auto"], ranks: ranks)
    let straight = try await train("\(name)-straight", values, ranks: ranks)
    // Some steps may be missing in the log.
    #expect(losses.count >= 3 && losses == straight.suffix(losses.count), sourceLocation: sourceLocation)
  }
}
