import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// Tests how `kinship doctor` finds what carries messages, with counters that a real cluster would have.
@Suite struct TransportTests {
  @Test(arguments: 2...9) func eachTwoNodesMeetOnce(count: Int) {
    var met: [[Int]] = []
    for round in 0..<TransportReport.rounds(of: count) {
      let peers = (0..<count).map { TransportReport.peer(of: $0, in: round, of: count) }
      for (place, peer) in peers.enumerated() {
        guard let peer else { continue }
        #expect(peer != place && peers[peer] == place, "round \(round): \(peers)")
        if place < peer { met.append([place, peer]) }
      }
      #expect(peers.count { $0 == nil } == count % 2)
    }
    #expect(met.count == count * (count - 1) / 2 && Set(met).count == met.count)
  }

  @Test func oneNodeMeetsNobody() {
    #expect((0..<TransportReport.rounds(of: 1)).allSatisfy { TransportReport.peer(of: 0, in: $0, of: 1) == nil })
  }

  /// A host with Ethernet, InfiniBand with IP over it, and Omni-Path.
  private func host(_ folder: TemporaryFolder, bytes: [String: Int]) throws -> NetworkCounters {
    func count(_ name: String) -> Int { 1000 + (bytes[name] ?? 0) }
    let table = ["lo", "eth0", "ib0"].map { name in
      "\(name): \(count(name)) 1 0 0 0 0 0 0 \(count(name)) 1 0 0 0 0 0 0"
    }
    let title = "Inter-|   Receive  |  Transmit\n face |bytes packets errs|bytes packets errs\n"
    try folder.write("proc/self/net/dev", (title + table.joined(separator: "\n") + "\n").utf8)
    for (name, speed, state) in [("eth0", "10000", "up"), ("ib0", "-1", "up")] {
      try folder.write("sys/class/net/\(name)/speed", "\(speed)\n".utf8)
      try folder.write("sys/class/net/\(name)/operstate", "\(state)\n".utf8)
    }
    for (name, rate, state) in [("mlx5_0", "100 Gb/sec (4X EDR)", "4: ACTIVE"), ("hfi1_0", "100 Gb/sec", "1: DOWN")] {
      let port = "sys/class/infiniband/\(name)/ports/1"
      for (file, text) in [
        ("link_layer", "InfiniBand"), ("rate", rate), ("state", state),
        ("counters/port_xmit_data", "\(count(name) / 4)"), ("counters/port_rcv_data", "\(count(name) / 4)"),
      ] { try folder.write("\(port)/\(file)", "\(text)\n".utf8) }
    }
    return .now(root: folder.url.path)
  }

  @Test func devicesOfAHost() throws {
    let folder = try TemporaryFolder()
    _ = try host(folder, bytes: [:])
    let devices = NetworkDevice.all(root: folder.url.path)
    #expect(
      devices.map(\.text) == [
        "eth0 10 Gb/s", "ib0", "hfi1_0 Omni-Path 100 Gb/s (down)", "mlx5_0 InfiniBand 100 Gb/s",
      ])
    #expect(NetworkDevice.all(root: folder.path("nowhere")).isEmpty)
  }

  @Test func theCountersThatRise() throws {
    let folder = try TemporaryFolder()
    let before = try host(folder, bytes: [:])
    let devices = NetworkDevice.all(root: folder.url.path)
    for (bytes, transport, names) in [
      (["eth0": 500], Transport.tcp, ["eth0"]), (["mlx5_0": 500, "eth0": 20], .infiniBand, ["mlx5_0"]),
      (["ib0": 500, "mlx5_0": 500], .tcp, ["ib0"]), (["hfi1_0": 500], .omniPath, ["hfi1_0"]),
      (["eth0": 20], .unknown, []),
    ] {
      let after = try host(folder, bytes: bytes)
      let carrier = TransportReport.Carrier(after, since: before, least: 400, devices)
      #expect(carrier == .init(transport: transport, names: names), "\(bytes)")
    }
    // Somebody else's traffic goes in one direction.
    var oneWay = before
    oneWay.interfaces["eth0"]?.sent += 1_000_000
    #expect(TransportReport.Carrier(oneWay, since: before, least: 400, devices).transport == .unknown)
  }

  private func report(
    _ between: [TransportReport.Route], inside: [TransportReport.Route] = [], devices: [NetworkDevice]
  ) -> TransportReport {
    let nodes = (0..<4).map { TransportReport.Node(rank: 2 * $0, hostname: "n\($0)", devices: devices) }
    return TransportReport(nodes: nodes, inside: inside, between: between, settings: ["OMPI_MCA_pml=ob1"])
  }

  private static let pairs = [[0, 2], [0, 4], [0, 6], [2, 4], [2, 6], [4, 6]]
  private static let ethernet = NetworkDevice(name: "eth0", transport: .tcp, speed: 1, isUp: true)
  private static let tcp = TransportReport.Carrier(transport: .tcp, names: ["eth0"])

  @Test func whatToSetForEachFabric() {
    func findings(_ other: NetworkDevice, layer: String = "ob1") -> [String] {
      report([.init(carrier: Self.tcp, pairs: Self.pairs)], devices: [Self.ethernet, other])
        .findings(MessageLayer(selected: layer, carriers: ["tcp"]))
    }
    let start = "n0, n1, n2, n3 exchange messages by TCP over eth0, although"
    #expect(
      findings(NetworkDevice(name: "mlx5_0", transport: .infiniBand, speed: 100, isUp: true)) == [
        "\(start) they have mlx5_0 InfiniBand 100 Gb/s; type mpirun --mca pml ucx, which takes a UCX built for several"
          + " threads (--enable-mt)"
      ])
    #expect(
      findings(NetworkDevice(name: "hfi1_0", transport: .omniPath, speed: 100, isUp: true)) == [
        "\(start) they have hfi1_0 Omni-Path 100 Gb/s; type mpirun --mca pml cm --mca mtl psm2 (or --mca mtl ofi, where"
          + " Open MPI has no psm2)"
      ])
    let faster = NetworkDevice(name: "eth1", transport: .tcp, speed: 25, isUp: true)
    #expect(
      findings(faster) == [
        "\(start) eth1 25 Gb/s is faster; if it joins these hosts, type mpirun --mca btl_tcp_if_include eth1"
      ])
    #expect(findings(faster, layer: "ucx").first?.hasSuffix("type mpirun -x UCX_NET_DEVICES=eth1") == true)
    for other in [
      NetworkDevice(name: "mlx5_0", transport: .infiniBand, speed: 100, isUp: false),
      NetworkDevice(name: "eth1", transport: .tcp, speed: 0.1, isUp: true),
      NetworkDevice(name: "eth1", transport: .tcp, speed: 25, isUp: false),
    ] { #expect(findings(other) == [], "\(other)") }
  }

  @Test func manyPairsAreOneLine() {
    let infiniBand = TransportReport.Carrier(transport: .infiniBand, names: ["mlx5_0"])
    let one = report([.init(carrier: infiniBand, pairs: Self.pairs)], devices: [Self.ethernet])
    #expect(
      one.lines == [
        "transports, by the counters that rose while two ranks exchanged messages",
        "  between nodes  InfiniBand over mlx5_0", "  interfaces     eth0 1 Gb/s", "  set            OMPI_MCA_pml=ob1",
      ])
    #expect(one.findings(nil) == [])
    // The third node's port is not in use.
    let two = report(
      [
        .init(carrier: infiniBand, pairs: [[0, 2], [0, 6], [2, 6]]),
        .init(carrier: Self.tcp, pairs: [[0, 4], [2, 4], [4, 6]]),
      ], inside: [.init(carrier: Self.tcp, pairs: [[2, 3]])], devices: [Self.ethernet])
    #expect(two.lines[1] == "  within a node  TCP over eth0")
    #expect(two.lines[2] == "  between nodes  InfiniBand over mlx5_0; TCP over eth0 between n2 and all others")
    let found = two.findings(nil)
    #expect(found.count == 2 && found[0].hasPrefix("ranks of one node send their messages by TCP over eth0 (n1) "))
    #expect(
      found[1].hasPrefix(
        "hosts exchange messages in different ways (InfiniBand over mlx5_0 between n0 and n1, n0 and n3, n1 and n3; TCP"
      ))
  }
}

@Suite struct LoadedFileTests {
  @Test func theLinesOfMaps() {
    let maps = """
      55d0c0a00000-55d0c0b00000 r-xp 00000000 08:01 11 /opt/my tools/kinship
      7f0000000000-7f0000100000 r--p 00000000 08:01 12 /usr/lib/openblas-pthread/libopenblasp-r0.3.21.so
      7f0000100000-7f0000200000 r-xp 00100000 08:01 12 /usr/lib/openblas-pthread/libopenblasp-r0.3.21.so
      7f0000200000-7f0000300000 r-xp 00000000 08:01 13 /usr/lib/libmpi.so.40.30.4
      7f0000300000-7f0000400000 r-xp 00000000 08:01 14 /usr/lib/libmpi_cxx.so.40.30.1
      7f0000400000-7f0000500000 r-xp 00000000 08:01 15 /site/kinship.libs/libjpeg-4d5f3a2b.so.62.4.0
      7f0000500000-7f0000600000 rw-p 00000000 00:00 0
      7f0000600000-7f0000700000 rw-s 00000000 00:01 16 /dev/shm/libmpi
      7ffc00000000-7ffc00100000 r-xp 00000000 00:00 0 [vdso]
      """
    let files = LoadedFile.mapped(maps, program: "/opt/my tools/kinship")
    #expect(files.map(\.name) == ["kinship", "libmpi", "libopenblas", "libjpeg"])
    #expect(files.map(\.identity) == ["08:01 11", "08:01 13", "08:01 12", "08:01 15"])
    let versions = files.map { LoadedFile(name: $0.name, path: $0.path, sha256: nil).version }
    #expect(versions == ["", "40.30.4", "", "62.4.0"])
  }

  private typealias Files = [(name: String, path: String, sum: String?)]

  private func report(_ rank: Int, host: String, _ files: Files) -> RankReport {
    DiagnosisTests.report(rank) {
      $0.hostname = host
      $0.files = files.map { LoadedFile(name: $0.name, path: $0.path, sha256: $0.sum) }
    }
  }

  @Test func ranksThatMixBuildsAreNamed() {
    let usual: Files = [("kinship", "/a/kinship", "11111111aa"), ("libmpi", "/usr/lib/libmpi.so.40", "22222222aa")]
    // The same file elsewhere is the same.
    let moved: Files = [("kinship", "/b/kinship", "11111111aa"), ("libmpi", "/usr/lib/libmpi.so.40", "22222222aa")]
    #expect([report(0, host: "a", usual), report(1, host: "b", moved)].buildFindings == [])
    let other: Files = [("kinship", "/a/kinship", "33333333aa"), ("libm", "/lib/libm.so.6", nil)]
    let reports = [report(0, host: "a", usual), report(1, host: "b", other), report(2, host: "c", other)]
    #expect(
      reports.buildFindings == [
        "b, c (ranks 1-2): other builds than rank 0 on a has: kinship /a/kinship (33333333), on rank 0 /a/kinship"
          + " (11111111); libmpi not loaded, on rank 0 /usr/lib/libmpi.so.40 (22222222); libm /lib/libm.so.6"
          + " (unreadable), on rank 0 not loaded; copy one build of kinship and install the same releases on every"
          + " node, or results differ in their last bits"
      ])
    #expect(reports.libraryLines[0] == "program and libraries of rank 0, which not all ranks have")
    #expect(reports.libraryLines[2] == "  libmpi         Open MPI v4.1.4  /usr/lib/libmpi.so.40")
    #expect(DiagnosisTests.report(0).files == nil && [DiagnosisTests.report(0)].libraryLines == [])
  }
  /// Both programs of a package are one build. Those of another package are not, whichever they are.
  @Test func programsOfOnePackageAreOneBuild() {
    func report(_ rank: Int, _ level: BLASKernel.Level, sum: String, package: String?) -> RankReport {
      DiagnosisTests.report(rank) {
        ($0.hostname, $0.built) = ("n\(rank)", level)
        $0.files = [LoadedFile(name: "kinship", path: "/p/kinship", sha256: sum, packageSHA256: package)]
      }
    }
    let newer = report(0, .avx512, sum: "11111111aa", package: "p")
    let mixed = [
      newer, report(1, .avx2, sum: "22222222aa", package: "p"), report(2, .avx512, sum: "11111111aa", package: "p"),
    ]
    let both =
      "ranks run different programs of one package (x86-64-v4 on ranks 0, 2, x86-64-v3 on rank 1); set"
      + " KINSHIP_MARCH=x86-64-v3 everywhere (mpirun -x), or results differ in their last bits"
    #expect(mixed.buildFindings == [both])
    #expect(mixed.libraryLines[0] == "program and libraries of rank 0, the same on all ranks")
    #expect([newer, report(1, .avx512, sum: "11111111aa", package: "p")].buildFindings == [])
    for package in ["q", nil] {
      let found = (mixed + [report(3, .avx512, sum: "33333333aa", package: package)]).buildFindings
      #expect(found.count == 2 && found[1] == both)
      let other = "n3 (rank 3): other builds than rank 0 on n0 has: kinship /p/kinship (33333333), on rank 0"
      #expect(found[0].hasPrefix(other), "\(found)")
    }
  }
}
