import Foundation
import TestSupport
import Testing

/// Tests `Await`, with which scripts inside tests wait. It would hang or return too early if it missed an event.
@Suite struct AwaitTests {
  /// Runs a script with `$live`, a process that waits forever, and `$dead`, one that has ended. In the script `now …`
  /// runs `Await` and prints its exit status, `later NAME …` starts it, and `end NAME` waits for it and prints its
  /// status.
  private func output(_ script: String) async throws -> [String] {
    let folder = try TemporaryFolder()
    let words = """
      cd "$FOLDER"
      mkfifo hold
      cat hold &
      live=$!
      true &
      dead=$!
      wait $dead
      now() { "$AWAIT" "$@"; echo "$1 $?"; }
      later() { local name=$1; shift; "$AWAIT" "$@" & eval "$name=$!"; }
      end() { wait "${!1}"; echo "$1 $?"; }
      """
    let run = try await MPIRun.execute(
      ["bash", "-c", [words, script, "kill -KILL $live"].joined(separator: "\n")],
      ["FOLDER": folder.url.path, "AWAIT": try MPIRun.path(of: "Await")])
    #expect(run.leftBehind.isEmpty, "\(run)")
    return run.output.split(separator: "\n").map(String.init)
  }

  @Test func filesThatComeLater() async throws {
    let found = try await output(
      """
      later path path a/b/c --while $live
      later lines lines a/log 2 step --after 1 --while $live
      later entries entries a/b 2 --while $live
      later match match a/b .partial --while $live
      mkdir -p a/b
      : >a/b/c
      mv a/b/c a/b/d
      : >a/b/c
      end path
      end entries
      printf 'step 1\\nstep 2\\nother\\nstep' >a/log
      printf ' 3\\n' >>a/log
      end lines
      mv a/b/d a/b/d.partial
      end match
      ln -s nowhere link
      now path link --while $dead
      """)
    #expect(found == ["path 0", "entries 0", "lines 0", "match 0", "path 0"])
  }

  @Test func whatIsThereWhenTheProcessHasEnded() async throws {
    let found = try await output(
      """
      now path a/b --while $dead
      printf 'step 1\\nstep 2\\nstep' >log
      now lines log 2 step --while $dead
      now lines log 3 step --while $dead
      now lines log 2 step --after 1 --while $dead
      mkdir a; : >a/.hidden; : >a/b
      now entries a 1 --while $dead
      now entries a 2 --while $dead
      now match a .partial --while $dead
      later path path no --while $live
      later gone gone $dead $live
      kill -KILL $live
      end path
      end gone
      """)
    #expect(
      found == [
        "path 1", "lines 0", "lines 1", "lines 1", "entries 0", "entries 1", "match 1", "path 1", "gone 0",
      ])
  }

  @Test func stoppedProcesses() async throws {
    let found = try await output(
      """
      kill -STOP $live
      now stopped $live $dead
      sed -n 's/^State:.//p' /proc/$live/status
      now gone
      now gone x
      now path a
      now lines a b c --while $live
      """)
    #expect(found == ["stopped 0", "T (stopped)", "gone 0", "gone 64", "path 64", "lines 64"])
  }
}
