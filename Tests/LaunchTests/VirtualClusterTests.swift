import Foundation
import TestSupport
import Testing

@testable import Launch

/// `scripts/virtual-cluster`: hosts that are namespaces of this machine.
///
/// Where the system does not let us make namespaces the script must say so, clearly; that is then what the tests hold
/// it to.
enum VirtualCluster {
  static let script = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "scripts/virtual-cluster").path

  /// Runs `command` on `hosts` hosts; nil where this system has refused them.
  static func run(_ hosts: Int, _ options: [String] = [], _ command: [String]) async throws -> MPIRun? {
    let probe = try await MPIRun.execute(["env", script, "1", "true"])
    guard probe.status == 0 else {
      #expect(probe.status == 64, "\(probe)")
      #expect(refusals.contains(where: probe.errors.contains), "\(probe)")
      return nil
    }
    return try await MPIRun.execute(["env", script, "\(hosts)"] + options + command)
  }

  static let refusals = [
    "virtual-cluster: needs root, to make network namespaces", "type: apt-get install iproute2",
    "this system does not let root make namespaces (", "this system does not let root make network links (",
  ]

  /// Starts ranks of the program on the hosts.
  static func mpirun(_ arguments: [String], ranks: Int) throws -> [String] {
    ["mpirun", "-n", "\(ranks)", try MPIRun.path(of: "kinship")] + arguments
  }
}

@Suite(.serialized, .timeLimit(.minutes(3))) struct VirtualClusterTests {
  @Test func hostsHaveNamesAndAddressesOfTheirOwn() async throws {
    let command = """
      cat {hostfile}; mpirun sh -c 'echo "$(cat /proc/sys/kernel/hostname) $(ip -brief -4 address show wire | tr -s " ")"'
      mpirun -n 1 --host node-2 sh -c 'ls -d /dev/shm/only-here 2>&1; getent hosts node-1; exit 75'
      """
    guard
      let run = try await VirtualCluster.run(
        2, ["--slots", "1"], ["sh", "-c", "touch /dev/shm/only-here; " + command])
    else { return }
    #expect(run.status == 75, "\(run)")
    #expect(run.output.contains("node-1 slots=1\nnode-2 slots=1\n"), "\(run)")
    for (name, address) in [("node-1", "10.77.0.1/24"), ("node-2", "10.77.0.2/24")] {
      #expect(run.lines.contains { $0.hasPrefix("\(name) wire@") && $0.hasSuffix("UP \(address) ") }, "\(run)")
    }
    #expect(run.output.contains("No such file") && run.output.contains("10.77.0.1"), "\(run)")
  }

  /// However the script dies, no process outlives it, and this machine has the links that it had.
  @Test(arguments: ["TERM", "KILL"]) func nothingIsLeftOver(signal: String) async throws {
    let folder = try TemporaryFolder()
    let command = """
      ip -brief link >"$FOLDER/before"
      "$SCRIPT" 2 sh -c 'echo up >"$FOLDER/up"; exec sleep "4711.$MARK"' &
      until [ -e "$FOLDER/up" ]; do kill -0 $! || exit 1; sleep 0.02; done
      kill -\(signal) $!
      wait $!
      echo "status $?"
      for try in {1..75}; do
        # Its status says nothing: it fails, too, where some other process has just ended.
        left=$(grep -lsa "4711[.]$MARK" /proc/[0-9]*/cmdline)
        [ -n "$left" ] || break
        sleep 0.2
      done
      echo "left: $left"
      ip -brief link | diff "$FOLDER/before" - && echo same links
      """
    guard try await VirtualCluster.run(1, [], ["true"]) != nil else { return }
    let run = try await MPIRun.execute(
      ["bash", "-c", command], ["FOLDER": folder.url.path, "SCRIPT": VirtualCluster.script, "MARK": "\(getpid())"])
    let status = signal == "TERM" ? 143 : 137
    #expect(run.output == "status \(status)\nleft: \nsame links\n", "\(run)")
  }

  @Test func theWireIsAsNarrowAsAsked() async throws {
    // 4 MB take 0.32 s at 100 Mb/s, in either direction.
    let send = """
      import socket, sys, time
      rank = int(__import__("os").environ["OMPI_COMM_WORLD_RANK"])
      if rank == 0:
          listener = socket.create_server(("", 5555))
          peer, _ = listener.accept()
          start = time.time()
          count = 0
          while count < 4000000:
              count += len(peer.recv(1 << 20))
          print("seconds", time.time() - start)
      else:
          while True:
              try:
                  peer = socket.create_connection(("node-1", 5555))
                  break
              except OSError:
                  time.sleep(0.02)
          peer.sendall(bytes(4000000))
      """
    guard
      let run = try await VirtualCluster.run(
        2, ["--bandwidth", "100mbit"], ["mpirun", "-n", "2", "python3", "-c", send])
    else { return }
    let seconds = try #require(run.output.split(separator: " ").last.flatMap { Double($0.dropLast()) }, "\(run)")
    #expect(seconds > 0.25 && seconds < 3, "\(run)")
  }

  @Test func whatIsRefused() async throws {
    for (arguments, words) in [
      (["0", "true"], "expected a number of hosts from 1 to 200, found '0'"),
      (["2", "--slots", "none", "true"], "--slots"),
      (["2", "--bandwidth", "fast", "true"], "--bandwidth: expected a rate as 1gbit or 100mbit, found 'fast'"),
      (["2", "--delay", "5", "true"], "--delay: expected a time as 100us, found '5'"),
      (["2", "--fast", "true"], "unknown option --fast"), (["2"], "scripts/virtual-cluster N"),
      (["--kill-host", "node-1"], "--kill-host works inside COMMAND"),
      (["--enter", "1", "true"], "process 1 is no virtual cluster that runs"),
    ] {
      let run = try await MPIRun.execute(["env", VirtualCluster.script] + arguments)
      #expect(run.status == 64 && run.errors.contains(words), "\(arguments): \(run)")
    }
    // Root without any of its rights, as in a container; whoever is not root is told so.
    let right = geteuid() == 0 ? ["setpriv", "--bounding-set=-all"] : ["env"]
    let run = try await MPIRun.execute(right + [VirtualCluster.script, "1", "true"])
    #expect(run.status == 64, "\(run)")
    #expect(VirtualCluster.refusals.contains(where: run.errors.contains), "\(run)")
  }
}

/// Runs of the program over hosts that are joined by TCP alone.
@Suite(.serialized, .timeLimit(.minutes(5))) struct RunsOnAClusterTests {
  @Test func trainsAsOnOneMachine() async throws {
    let scene = try await TrainScene()
    let here = try await scene.train("here", ranks: 3)
    guard
      let run = try await VirtualCluster.run(
        3, [], VirtualCluster.mpirun(["train", scene.runFile, "--set", "name=there"], ranks: 3))
    else { return }
    #expect(run.status == 0, "\(run)")
    #expect(difference(try scene.losses("there"), here) < 1e-5)
  }

  /// The teacher is in shared memory, once on each of two hosts of two ranks.
  @Test func precomputesTheSameFiles() async throws {
    let scene = try await CacheScene()
    try await scene.precompute("here", ranks: 1)
    let arguments =
      ["precompute", scene.scene.runFile] + scene.settings("there").flatMap { ["--set", $0] }
    let kernel = ProcessInfo.processInfo.environment["OPENBLAS_CORETYPE"].map { ["-x", "OPENBLAS_CORETYPE=\($0)"] }
    var command = try VirtualCluster.mpirun(arguments, ranks: 4)
    command.insert(contentsOf: kernel ?? [], at: 1)
    guard let run = try await VirtualCluster.run(2, ["--slots", "2"], command) else { return }
    #expect(run.status == 0, "\(run)")
    let (found, expected) = (try scene.files("there"), try scene.files("here"))
    #expect(found.keys.sorted() == expected.keys.sorted() && found == expected)
  }

  /// A host that loses its power ends the job; what is left of the cluster goes on from the last checkpoint.
  @Test func goesOnWithoutALostHost() async throws {
    let scene = try await TrainScene()
    let straight = try await scene.train("straight", ["steps=80"], ranks: 2)
    let train = [
      try MPIRun.path(of: "kinship"), "train", scene.runFile, "--set", "name=struck", "--set", "steps=80", "--set",
      "checkpoint.every=5", "--resume", "auto",
    ]
    let script = """
      "$KINSHIP_PACKAGE/scripts/launch-mpirun" --ranks 3 "${@:2}" >&2 &
      until [ -e "$CHECKPOINTS/latest" ]; do kill -0 $! || exit 1; sleep 0.02; done
      "$KINSHIP_PACKAGE/scripts/virtual-cluster" --kill-host node-2
      SECONDS=0
      wait $!
      echo "lost: status $? within $SECONDS seconds"
      mpirun -n 2 --host node-1,node-3 "$@"
      """
    let package = URL(filePath: VirtualCluster.script).deletingLastPathComponent().deletingLastPathComponent().path
    let command = [
      "env", "KINSHIP=\(train[0])", "KINSHIP_PACKAGE=\(package)",
      "CHECKPOINTS=\(scene.checkpoint("struck", 0).deletingLastPathComponent().path)",
      "bash", "-c", script, "bash",
    ]
    guard let run = try await VirtualCluster.run(3, [], command + train) else { return }
    #expect(run.status == 0, "\(run)")
    let lost = try #require(run.output.firstMatch(of: /lost: status ([0-9]+) within ([0-9]+) seconds/), "\(run)")
    #expect(lost.1 != "0" && Int(lost.2).map { $0 <= 10 } ?? false, "\(run)")
    let start = try #require(run.output.firstMatch(of: /going on after step ([0-9]+)/), "\(run)")
    #expect(Int(start.1).map { $0 >= 5 && $0 % 5 == 0 && $0 < 80 } ?? false, "\(run)")
    #expect(run.output.contains("ranks were 3 and are 2"), "\(run)")
    #expect(difference(try scene.losses("struck"), straight) < 1e-4, "\(run)")
  }
}
