import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// `scripts/virtual-cluster`: hosts that are namespaces of this machine.
///
/// Where the system does not let us make them the script says so, and tests that need them are skipped for the reason
/// that it gives.
enum VirtualCluster {
  static let script = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "scripts/virtual-cluster").path

  /// Runs `command`, which starts so many ranks at a time, on `hosts` hosts.
  static func run(
    _ hosts: Int, _ options: [String] = [], _ command: [String], ranks: Int = 1
  ) async throws -> MPIRun {
    try await MPIRun.execute(["env", script, "\(hosts)"] + options + command, ranks: ranks)
  }

  /// Starts one host with these options; returns what the script says where this system does not let it.
  ///
  /// Only what the script itself calls the system's refusal counts: any other error is one for the tests to meet.
  static func refusal(_ options: [String] = []) async throws -> String? {
    let trial = try await run(1, options, ["true"])
    guard trial.status == 64, refusals.contains(where: trial.errors.contains) else { return nil }
    return trial.errors.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  static let refusals = [
    "virtual-cluster: needs root, to make network namespaces", "type: apt-get install iproute2",
    "type: apt-get install slurm-wlm munge", "this system does not let root make namespaces (",
    "this system does not let root make network links (", ": tc cannot do it here (",
  ]

  /// Starts ranks of the program on the hosts.
  static func mpirun(_ arguments: [String], ranks: Int) throws -> [String] {
    ["mpirun", "-n", "\(ranks)", try MPIRun.path(of: "kinship")] + arguments
  }
}

@Suite struct VirtualClusterTests {
  @Test(.requires(.hosts)) func hostsHaveNamesAndAddressesOfTheirOwn() async throws {
    let command = """
      cat {hostfile}
      mpirun sh -c 'echo "$(cat /proc/sys/kernel/hostname) $(ip -brief -4 address show wire | tr -s " ")"'
      mpirun -n 1 --host node-2 sh -c 'ls -d /dev/shm/only-here 2>&1; getent hosts node-1; exit 75'
      """
    let run = try await VirtualCluster.run(
      2, ["--slots", "1"], ["sh", "-c", "touch /dev/shm/only-here; " + command], ranks: 2)
    #expect(run.status == 75, "\(run)")
    #expect(run.output.contains("node-1 slots=1\nnode-2 slots=1\n"), "\(run)")
    for (name, address) in [("node-1", "10.77.0.1/24"), ("node-2", "10.77.0.2/24")] {
      #expect(run.lines.contains { $0.hasPrefix("\(name) wire@") && $0.hasSuffix("UP \(address) ") }, "\(run)")
    }
    #expect(run.output.contains("No such file") && run.output.contains("10.77.0.1"), "\(run)")
  }

  /// However the script dies, no process outlives it, and this machine has the links that it had.
  @Test(.requires(.hosts), arguments: ["TERM", "KILL"]) func nothingIsLeftOver(signal: String) async throws {
    let folder = try TemporaryFolder()
    let command = """
      ip -brief link >"$FOLDER/before"
      "$SCRIPT" 2 sh -c 'exec 9>"$FOLDER/alive"; flock 9; echo up >"$FOLDER/up"; exec sleep "4711.$MARK"' &
      "$AWAIT" path "$FOLDER/up" --while $! || exit 1
      kill -\(signal) $!
      wait $!
      echo "status $?"
      # The system gives the lock to others when the process that holds it has ended.
      flock "$FOLDER/alive" true
      # The processes around it end a moment later; if one does not, this waits until the test's limit.
      "$AWAIT" gone $(grep -lsa "4711[.]$MARK" /proc/[0-9]*/cmdline | cut -d / -f 3)
      # Its status says nothing: it fails, too, where some other process has just ended.
      echo "left: $(grep -lsa "4711[.]$MARK" /proc/[0-9]*/cmdline)"
      ip -brief link | diff "$FOLDER/before" - && echo same links
      """
    let run = try await MPIRun.execute(
      ["bash", "-c", command],
      [
        // Of this case alone: the other one may run at the same time.
        "FOLDER": folder.url.path, "SCRIPT": VirtualCluster.script, "MARK": "\(UInt64.random(in: 0 ... .max))",
        "AWAIT": try MPIRun.path(of: "Await"),
      ])
    let status = signal == "TERM" ? 143 : 137
    #expect(run.output == "status \(status)\nleft: \nsame links\n", "\(run)")
  }

  @Test(.requires(.hostsWithBandwidth)) func theWireIsAsNarrowAsAsked() async throws {
    let folder = try TemporaryFolder()
    let pipe = folder.path("pipe")
    // 4 MB in each direction. The second host calls when the first listens: either end of the pipe waits for the other.
    let exchange = """
      import os, socket, sys, threading
      if os.environ["OMPI_COMM_WORLD_RANK"] == "0":
          listener = socket.create_server(("", 5555))
          open(sys.argv[1], "w").close()
          peer, _ = listener.accept()
      else:
          open(sys.argv[1]).close()
          peer = socket.create_connection(("node-1", 5555))
      sender = threading.Thread(target=peer.sendall, args=[bytes(4000000)])
      sender.start()
      received = 0
      while received < 4000000:
          part = peer.recv(1 << 20)
          assert part
          received += len(part)
      sender.join()
      """
    let command = """
      mkfifo "$2"
      mpirun -n 2 python3 -c "$1" "$2" || exit
      # Through mpirun's pipe, lines of two ranks may mix.
      mpirun -n 2 sh -c 'tc -s -j qdisc show dev wire >"$0.$OMPI_COMM_WORLD_RANK"' "$2" || exit
      cat "$2.0" "$2.1"
      for port in port-1 port-2; do tc -s -j qdisc show dev $port; done
      """
    let run = try await VirtualCluster.run(
      2, ["--bandwidth", "100mbit"], ["sh", "-c", command, "sh", exchange, pipe], ranks: 2)
    try #require(run.status == 0, "\(run)")
    /// What the kernel says of a queue before a link.
    struct Queue: Decodable {
      struct Options: Decodable { let rate: Int }
      let kind: String
      let options: Options
      let bytes: Int
      /// How often a packet had to wait for its turn.
      let overlimits: Int
    }
    let queues = try run.output.split(separator: "\n").flatMap {
      try JSONDecoder().decode([Queue].self, from: Data($0.utf8))
    }
    #expect(queues.count == 4 && queues.allSatisfy { $0.kind == "tbf" && $0.options.rate == 12_500_000 }, "\(run)")
    #expect(queues.allSatisfy { $0.bytes > 4_000_000 }, "\(run)")
    // What a host has sent at this rate does not have to wait at the switch's ports.
    #expect(queues.prefix(2).allSatisfy { $0.overlimits > 0 }, "\(run)")
  }

  /// The hosts that are left remember the address of the head's switch. It must not depend on those that were killed,
  /// whose links go with them.
  @Test(.requires(.hosts)) func theHeadKeepsItsAddressWhenHostsGo() async throws {
    let command = """
      ip -brief link show switch
      for port in port-1 port-2 port-3; do ip link del $port && ip -brief link show switch; done
      """
    let run = try await VirtualCluster.run(3, [], ["bash", "-c", command])
    let addresses = run.lines.compactMap { $0.split(separator: " ").dropFirst(2).first }
    #expect(run.status == 0 && addresses.count == 4 && Set(addresses).count == 1, "\(run)")
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
@Suite(.serialized, .requires(.hosts)) struct RunsOnAClusterTests {
  @Test func trainsAsOnOneMachine() async throws {
    let scene = try await TrainScene()
    let here = try await scene.train("here", ranks: 3)
    let run = try await VirtualCluster.run(
      3, [], VirtualCluster.mpirun(["train", scene.runFile, "--set", "name=there"], ranks: 3), ranks: 3)
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
    let run = try await VirtualCluster.run(2, ["--slots", "2"], command, ranks: 4)
    #expect(run.status == 0, "\(run)")
    let (found, expected) = (try scene.files("there"), try scene.files("here"))
    #expect(found.keys.sorted() == expected.keys.sorted() && found == expected)
  }

  /// Each host has copies of the data on a disk of its own, and its ranks write one part of a checkpoint together.
  @Test func hostsHaveCopiesAndPartsOfTheirOwn() async throws {
    let scene = try await TrainScene()
    let here = try await scene.train("here", ranks: 3)
    let values = ["name=there", "data.stage=/dev/shm/stage", "checkpoint.parts=node"].flatMap { ["--set", $0] }
    let run = try await VirtualCluster.run(
      2, ["--slots", "2"], VirtualCluster.mpirun(["train", scene.runFile] + values, ranks: 3), ranks: 3)
    #expect(run.status == 0 && run.output.contains(" to /dev/shm/stage on 2 nodes: "), "\(run)")
    #expect(difference(try scene.losses("there"), here) < 1e-5)
    let manifest = try Checkpoint.open(scene.checkpoint("there", 10).path).manifest
    #expect(manifest.parts.count == 2 && manifest.ranks == 3)
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
      "$AWAIT" path "$CHECKPOINTS/latest" --while $! || exit 1
      "$KINSHIP_PACKAGE/scripts/virtual-cluster" --kill-host node-2
      wait $!
      echo "lost: status $?"
      mpirun -n 2 --host node-1,node-3 "$@"
      """
    let package = URL(filePath: VirtualCluster.script).deletingLastPathComponent().deletingLastPathComponent().path
    let command = [
      "env", "KINSHIP=\(train[0])", "KINSHIP_PACKAGE=\(package)", "AWAIT=\(try MPIRun.path(of: "Await"))",
      "CHECKPOINTS=\(scene.checkpoint("struck", 0).deletingLastPathComponent().path)",
      "bash", "-c", script, "bash",
    ]
    let run = try await VirtualCluster.run(3, [], command + train, ranks: 3)
    #expect(run.status == 0, "\(run)")
    #expect(run.output.contains(/lost: status [1-9]/), "\(run)")
    let start = try #require(run.output.firstMatch(of: /going on after step ([0-9]+)/), "\(run)")
    #expect(Int(start.1).map { $0 >= 5 && $0 % 5 == 0 && $0 < 80 } ?? false, "\(run)")
    #expect(run.output.contains("ranks were 3 and are 2"), "\(run)")
    #expect(difference(try scene.losses("struck"), straight) < 1e-4, "\(run)")
  }
}
