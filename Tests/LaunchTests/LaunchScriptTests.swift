import Foundation
import TestSupport
import Testing

/// `scripts/launch-mpirun` with stand-ins for the mpirun of either generation of Open MPI, and of another MPI.
@Suite struct LaunchScriptTests {
  private let folder = try! TemporaryFolder()

  /// Starts `doctor` on two ranks of three threads by an mpirun that says this about itself and otherwise runs `body`.
  private func launch(
    _ version: String, flags: String = "", _ options: [String] = [], body: String = ""
  ) async throws -> MPIRun {
    let script = """
      #!/bin/sh
      [ "$1" != --version ] || { echo '\(version)'; exit; }
      \(body)
      """
    let mpirun = try folder.write("mpirun", script.utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: mpirun)
    let path = try #require(ProcessInfo.processInfo.environment["PATH"])
    return try await MPIRun.execute(
      ["bash", TrainScene.scripts + "/launch-mpirun", "--ranks", "2", "--threads", "3"] + options + ["doctor"],
      ["PATH": "\(folder.url.path):\(path)", "KINSHIP": "/bin/true", "MPIRUN_FLAGS": flags])
  }

  /// The user's binding and mapping take the place of the script's. Open MPI 5 refuses an option that is given twice,
  /// and any other binding than to the cores of PE.
  @Test(arguments: [
    (4, "", "--map-by slot:PE=3 --bind-to core"), (5, "", "--map-by slot:PE=3 --bind-to core"),
    (4, "--bind-to none", "--map-by slot:PE=3"), (5, "--bind-to none", "--map-by slot"),
    (5, "--bind-to core:overload-allowed --oversubscribe", "--map-by slot:PE=3"),
    (5, "--map-by ppr:1:node", "--bind-to core"), (4, "--map-by node --bind-to=none", ""),
    (5, "--map-by node --bind-to=none", ""),
  ])
  func placement(generation: Int, flags: String, placement: String) async throws {
    let version = generation == 4 ? "mpirun (Open MPI) 4.1.4" : "mpirun.openmpi (Open MPI) 5.0.7\n\nReport bugs"
    let run = try await launch(version, flags: flags, ["--dry-run"])
    #expect(run.status == 0, "\(run)")
    let words = run.output.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    #expect(words.hasPrefix(["mpirun", placement, "-n 2 "].filter { !$0.isEmpty }.joined(separator: " ")), "\(run)")
    #expect(words.hasSuffix("\(flags) /bin/true doctor"), "\(run)")
  }

  @Test(arguments: ["HYDRA build details:", "mpirun (Open MPI) 3.1.3"])
  func otherLaunchers(version: String) async throws {
    let run = try await launch(version, ["--dry-run"])
    let words = "launch-mpirun: mpirun is '\(version)', expected that of Open MPI 4.1 or 5; install openmpi-bin,"
    #expect(run.status == 64 && run.errors.hasPrefix(words) && run.output.isEmpty, "\(run)")
  }

  /// What the mpirun of Open MPI 5.0.7 says when a rank calls MPI_Abort or ends with a code is left out.
  @Test func chatterOfOpenMPI5() async throws {
    let line = String(repeating: "-", count: 74)
    let run = try await launch(
      "mpirun (Open MPI) 5.0.7",
      body: #"""
        cat >&2 <<'TEXT'
        kinship: rank 1 of 2 on node: no bread in the house
        \#(line)
        MPI_ABORT was invoked on rank 1 in communicator MPI_COMM_WORLD
          Proc: [[38656,1],1]
          Errorcode: 77

        NOTE: invoking MPI_ABORT causes Open MPI to kill all MPI processes.
        You may or may not see output from other processes, depending on
        exactly when Open MPI kills them.
        \#(line)
        \#(line)
        prterun has exited due to process rank 1 with PID 0 on node node calling
        "abort". This may have caused other processes in the application to be
        terminated by signals sent by prterun (as reported here).
        \#(line)
        \#(line)
        prterun detected that one or more processes exited with non-zero status,
        thus causing the job to be terminated. The first process to do so was:

           Process name: [prterun-node-6@1,1]
           Exit code:    77
        \#(line)
        [node:00006] PMIX ERROR: PMIX_ERR_UNREACH in file ../../../src/server/pmix_server.c at line 3184
        TEXT
        printf '\0' >&2
        exit 77
        """#)
    #expect(run.status == 77 && run.errors == "kinship: rank 1 of 2 on node: no bread in the house\n", "\(run)")
  }
}
