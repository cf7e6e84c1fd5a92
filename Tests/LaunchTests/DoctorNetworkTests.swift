import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// Tests what `kinship doctor` measures between ranks, on one machine and across virtual hosts.
@Suite struct DoctorNetworkTests {
  private struct Report: Decodable {
    var ranks: [RankReport]
    var network: NetworkReport?
    var transports: TransportReport?
    var folder: FolderReport?
    var findings: [String]

    init(_ run: MPIRun) throws {
      try #require(run.status == 0, "\(run)")
      let line = try #require(run.output.split(separator: "\n").last, "\(run)")
      self = try JSONDecoder().decode(Report.self, from: Data(line.utf8))
    }
  }

  @Test func fewRanksAreMeasuredInAllPairsAndManyInSome() {
    #expect(NetworkReport.pairs(of: 2).map { [$0.0, $0.1] } == [[0, 1]])
    #expect(NetworkReport.pairs(of: 3).map { [$0.0, $0.1] } == [[0, 1], [0, 2], [1, 2]])
    let many = NetworkReport.pairs(of: 40)
    #expect(many.count == 80 && Set(many.map { [$0.0, $0.1] }).count == 80)
    #expect(many.allSatisfy { $0.0 < $0.1 && (0..<40).contains($0.0) && (0..<40).contains($0.1) })
    #expect(Set(many.prefix(40).flatMap { [$0.0, $0.1] }).count == 40)
  }

  @Test func ranksOfOneMachine() async throws {
    let folder = try TemporaryFolder()
    let run = try await MPIRun.kinship(["doctor", "--json", "--folder", folder.url.path], ranks: 3)
    let report = try Report(run)
    let network = try #require(report.network)
    #expect(network.pairs.map { [$0.first, $0.second] } == [[0, 1], [0, 2], [1, 2]] && network.isComplete)
    #expect(network.pairs.allSatisfy { $0.sharesNode && $0.latency > 0 && $0.bandwidth > 0 })
    #expect(network.reduceScatter.bytes == 16 << 20 && network.allGather.bandwidth > 0)
    #expect(network.clocks == [])
    let transports = try #require(report.transports)
    #expect(transports.inside == [.init(carrier: .init(transport: .sharedMemory, names: []), pairs: [[0, 1]])])
    #expect(transports.between == [] && transports.nodes.map(\.rank) == [0])
    // MPIRun sets the layer.
    #expect(transports.settings.contains("OMPI_MCA_pml=ob1"))
    for rank in report.ranks {
      #expect(rank.messageLayer?.selected == "ob1" && rank.messageLayer?.carriers.contains("tcp") == true)
      let files = try #require(rank.files)
      let names = ["kinship", "libmpi", "libopenblas", "libdnnl", "libhdf5", "libjpeg", "libpng16", "libwebp", "libc"]
      for name in names {
        let file = try #require(files.first { $0.name == name }, "\(name) in \(files)")
        #expect(file.sha256?.count == 64 && FileManager.default.fileExists(atPath: file.path), "\(file)")
      }
      #expect(files == report.ranks[0].files)
    }
    let tried = try #require(report.folder)
    #expect(tried.seats.allSatisfy { $0.seen != nil && $0.isSeen && $0.failure == nil })
    for kind in ["flock", "fcntl"] {
      #expect(tried.seats.map { $0.locks[kind] } == [.granted, .held, .held], "\(kind)")
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path) == [])
    let alone = try Report(try await MPIRun.kinship(["doctor", "--json", "--folder", "/nowhere"], ranks: nil))
    #expect(alone.network == nil && alone.transports == nil)
    // Only ranks that mpirun has started load the library by which they talk to it.
    #expect(alone.ranks[0].files == report.ranks[0].files?.filter { $0.name != "libpmix" })
    #expect(alone.findings.contains { $0.hasPrefix("/nowhere cannot be written: ") }, "\(alone.findings)")
  }

  @Test func ranksOfOneMachineThatUseTCP() async throws {
    let report = try Report(
      try await MPIRun.kinship(
        ["doctor", "--json"], ranks: 2,
        environment: ["OMPI_MCA_btl": "self,tcp", "OMPI_MCA_btl_tcp_if_include": "lo"]))
    #expect(report.transports?.inside.map(\.carrier) == [.init(transport: .tcp, names: ["lo"])])
    #expect(report.ranks.allSatisfy { $0.messageLayer == MessageLayer(selected: "ob1", carriers: ["tcp"]) })
    let words = "ranks of one node send their messages by TCP over lo ("
    #expect(report.findings.contains { $0.hasPrefix(words) }, "\(report.findings)")
  }

  @Test(.requires(.hostsWithBandwidth)) func hostsOfACluster() async throws {
    let folder = try TemporaryFolder()
    let command = try VirtualCluster.mpirun(["doctor", "--json", "--folder", folder.url.path], ranks: 4)
    let report = try Report(
      try await VirtualCluster.run(2, ["--slots", "2", "--bandwidth", "400mbit"], command))
    let network = try #require(report.network)
    #expect(network.pairs.filter(\.sharesNode).map { [$0.first, $0.second] } == [[0, 1], [2, 3]])
    // 400 Mb/s are 0.05 GB/s.
    for pair in network.pairs where !pair.sharesNode { #expect(pair.bandwidth < 0.06, "\(pair)") }
    #expect(network.clocks.map(\.rank) == [2] && abs(network.clocks[0].offset) < 1)
    #expect(report.findings.contains { $0.hasPrefix("nodes exchange 0.0") }, "\(report.findings)")
    #expect(report.folder?.seats.allSatisfy { $0.isSeen } ?? false)
    let transports = try #require(report.transports)
    #expect(transports.nodes.map(\.hostname) == ["node-1", "node-2"])
    #expect(transports.inside.map(\.carrier.transport) == [.sharedMemory])
    #expect(transports.inside.first?.pairs == [[0, 1], [2, 3]])
    #expect(transports.between == [.init(carrier: .init(transport: .tcp, names: ["wire"]), pairs: [[0, 2]])])

    // Each host has its own shared memory.
    let blind = try VirtualCluster.mpirun(["doctor", "--folder", "/dev/shm"], ranks: 2)
    let second = try await VirtualCluster.run(2, [], blind)
    #expect(second.output.contains("node node-1") && second.output.contains("node node-2"), "\(second)")
    #expect(second.output.contains("rank 1 (node-2) does not see what rank 0 writes to /dev/shm"), "\(second)")
    #expect(second.output.contains("  between nodes  latency "), "\(second)")
    #expect(second.output.contains("  between nodes  TCP over wire\n"), "\(second)")
  }
}

@Suite struct NetworkFindingsTests {
  private static func network(_ change: (inout NetworkReport) -> Void) -> [String] {
    let pairs = NetworkReport.pairs(of: 4).map { first, second in
      NetworkReport.Pair(
        first: first, second: second, sharesNode: first / 2 == second / 2, latency: first / 2 == second / 2 ? 1 : 20,
        bandwidth: first / 2 == second / 2 ? 5 : 1.1)
    }
    let collective = NetworkReport.Collective(bytes: 16 << 20, seconds: 0.01, bandwidth: 1.2)
    var report = NetworkReport(
      pairs: pairs, isComplete: true, reduceScatter: collective, allGather: collective,
      clocks: [.init(rank: 2, offset: 0.2, uncertainty: 1e-5)])
    change(&report)
    return report.findings((0..<4).map { DiagnosisTests.report($0) })
  }

  @Test func everyFindingNamesItsRemedy() {
    #expect(Self.network { _ in } == [])
    #expect(
      Self.network { $0.clocks[0].offset = -90 } == [
        "the clock of rank 2 on node is 90 s behind that of rank 0; start chrony or ntpd there"
      ])
    #expect(
      Self.network { $0.pairs[2].bandwidth = 0.1 } == [
        "a pair exchanges less than a third of the usual 1.1 GB/s (rank 0 on node and rank 3 on node 0.1), and every"
          + " step waits for the slowest; check the cables and ports of those nodes, or leave them out of the host file"
      ])
    let slow = Self.network { for index in $0.pairs.indices { $0.pairs[index].bandwidth = 0.11 } }
    #expect(slow.count == 2 && slow[0].hasPrefix("ranks of one node exchange 0.11 GB/s: shared memory is not in use"))
    #expect(slow[1].hasPrefix("nodes exchange 0.11 GB/s") && slow[1].contains("--mca btl_tcp_if_include"))
    let late = Self.network { for index in 1...4 { $0.pairs[index].latency = 3000 } }
    #expect(late.count == 1 && late[0].hasPrefix("a message between nodes takes 3000 µs"))
  }

  @Test func foldersThatAreNotShared() {
    let good = FolderReport.Seat(
      system: "nfs", free: 1 << 40, seen: 0, locks: ["flock": .granted, "fcntl": .granted], isSeen: true)
    func findings(_ change: (inout FolderReport.Seat) -> Void) -> [String] {
      var other = good
      other.locks = ["flock": .held, "fcntl": .held]
      change(&other)
      return FolderReport(folder: "/data", seats: [good, other]).findings((0..<2).map { DiagnosisTests.report($0) })
    }
    #expect(findings { _ in } == [])
    #expect(
      findings { $0.isSeen = false } == [
        "rank 0 does not see what rank 1 writes to /data; mount it with less caching (NFS: actimeo=1)"
      ])
    #expect(
      findings { $0.locks["flock"] = .failed("No locks available") } == [
        "/data does not support file locks, which HDF5 asks for; type export HDF5_USE_FILE_LOCKING=FALSE"
          + " (mpirun -x HDF5_USE_FILE_LOCKING)"
      ])
    #expect(
      findings { $0.seen = nil }.first?.hasPrefix("rank 1 (node) does not see what rank 0 writes to /data") ?? false)
  }

  @Test func machinesOfOneName() {
    let reports = (0..<2).map { rank in DiagnosisTests.report(rank) { $0.host.boot = "b\(rank)" } }
    #expect(Diagnosis.findings(reports).contains { $0.contains("are on different machines that are all called node") })
  }
}
