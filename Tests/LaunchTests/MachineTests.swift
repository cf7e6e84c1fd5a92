import Foundation
import Tensor
import TestSupport
import Testing

@testable import Launch

@Suite struct MachineTests {
  @Test(
    arguments: [
      ("Prescott", BLASKernel.Level.avx512, nil, BLASKernel.Change.set("SkylakeX")),
      ("Haswell", .avx512, nil, .set("SkylakeX")),
      ("Zen", .avx512, nil, .set("SkylakeX")),
      ("Prescott", .avx2, nil, .set("Haswell")),
      ("Haswell", .avx2, nil, nil),
      ("SkylakeX", .avx512, nil, nil),
      ("Cooperlake", .avx512, nil, nil),
      ("SapphireRapids", .avx512, nil, nil),
      ("Nehalem", .baseline, nil, nil),
      // An unknown kernel may be better than any known one.
      ("DiamondRapids", .avx512, nil, nil),
      ("neoversev1", .baseline, nil, nil),
      // The user's choice wins, good or bad; an empty variable is not a choice.
      ("Prescott", .avx512, "Prescott", nil),
      ("Cooperlake", .avx512, "", .unset),
      ("Prescott", .avx2, "", .unset),
    ] as [(String, BLASKernel.Level, String?, BLASKernel.Change?)])
  func kernelsBelowTheProcessorAreChanged(
    kernel: String, processor: BLASKernel.Level, given: String?, change: BLASKernel.Change?
  ) {
    #expect(BLASKernel.change(kernel: kernel, processor: processor, given: given) == change)
  }

  @Test func theProcessorsLevelIsTheOneThatTheKernelTells() throws {
    #if os(Linux) && arch(x86_64)
      let text = try String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)
      let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("flags") })
      let flags = Set(line.split(separator: " ").map(String.init))
      let avx2: Set = ["avx2", "fma"]
      let avx512: Set = ["avx512f", "avx512dq", "avx512bw", "avx512vl"]
      let told: BLASKernel.Level =
        !avx2.isSubset(of: flags) ? .baseline : avx512.isSubset(of: flags) ? .avx512 : .avx2
      #expect(Machine.level == told)
      #expect(try #require(Machine.builtLevel) <= told)
    #else
      #expect(Machine.level == .baseline)
    #endif
  }

  /// Each loop runs wherever the processor has its instructions.
  @Test func theProcessorMultipliesAndAdds() {
    let processor = Processor.current
    let fmas: [MultiplyAdds?] = [nil, .fmas256, .fmas512]
    let products: MultiplyAdds? = processor.hasAMX ? .tiles : processor.hasDotProducts ? .dotProducts : nil
    #expect(MultiplyAdds(.fp32) == fmas[Machine.level.rawValue])
    #expect(MultiplyAdds(.bf16) == products)
    for found in [MultiplyAdds(.fp32), products].compactMap({ $0 }) {
      let rate = found.rate(threads: 2, seconds: 0.01)
      // Linux may refuse to lend the tiles to a process.
      #expect(rate.map { $0 > 0 } ?? (found == .tiles), "\(found.name)")
    }
  }

  @Test func setsOfProcessorsAreRead() {
    #expect(Cores.list(text: "0-3,8,10-11") == [0, 1, 2, 3, 8, 10, 11])
    #expect(Cores.list(text: "5") == [5])
    for text in ["", "x", "3-1", "1-2-3", "-", "1-"] { #expect(Cores.list(text: text) == nil) }
  }

  @Test func timeLimitsOfContainersAreRead() throws {
    let folder = try TemporaryFolder()
    #expect(Cores.quota(under: folder.url.path) == nil)
    try folder.write("cpu/cpu.cfs_quota_us", Data("150000\n".utf8))
    try folder.write("cpu/cpu.cfs_period_us", Data("100000\n".utf8))
    #expect(Cores.quota(under: folder.url.path) == 1.5)
    try folder.write("cpu/cpu.cfs_quota_us", Data("-1\n".utf8))
    #expect(Cores.quota(under: folder.url.path) == nil)
    try folder.write("cpu.max", Data("250000 100000\n".utf8))
    #expect(Cores.quota(under: folder.url.path) == 2.5)
    try folder.write("cpu.max", Data("max 100000\n".utf8))
    #expect(Cores.quota(under: folder.url.path) == nil)
  }

  @Test func thisProcessHasCores() {
    let cores = Cores.current
    #expect(!cores.bound.isEmpty && cores.bound.count <= cores.node)
    #expect(Set(cores.bound).count == cores.bound.count)
  }
}

@Suite struct ThreadPlanTests {
  private static func cores(_ bound: Range<Int>, of node: Int, quota: Double? = nil) -> Cores {
    Cores(bound: Array(bound), node: node, quota: quota)
  }

  private static func plans(_ node: [Cores], _ environment: [String: String] = [:]) -> [ThreadPlan] {
    node.indices.map { ThreadPlan(rank: $0, node: node, environment: environment) }
  }

  @Test func ranksWithCoresOfTheirOwnUseThem() {
    let plans = Self.plans([Self.cores(0..<4, of: 8), Self.cores(4..<8, of: 8)])
    #expect(plans.map(\.compute) == [4, 4] && plans.map(\.loaders) == [1, 1])
    #expect(plans.allSatisfy { $0.warnings.isEmpty })
    #expect(Self.plans([Self.cores(0..<16, of: 16)])[0].loaders == 4)
  }

  @Test func ranksThatShareCoresDivideThem() {
    // --bind-to none: all ranks on all cores.
    #expect(Self.plans([Cores](repeating: Self.cores(0..<8, of: 8), count: 3)).map(\.compute) == [2, 2, 2])
    #expect(Self.plans([Cores](repeating: Self.cores(0..<3, of: 3), count: 3)).map(\.compute) == [1, 1, 1])
    // --bind-to package: two packages of 4, two ranks on each.
    let packages = [0..<4, 0..<4, 4..<8, 4..<8].map { Self.cores($0, of: 8) }
    #expect(Self.plans(packages).map(\.compute) == [2, 2, 2, 2])
    #expect(Self.plans(packages).allSatisfy { $0.warnings.isEmpty })
  }

  @Test func theEnvironmentLowersAndOverrides() {
    let node = [Self.cores(0..<8, of: 8)]
    func threads(_ environment: [String: String]) -> Int { Self.plans(node, environment)[0].compute }
    #expect(threads(["OMP_NUM_THREADS": "3"]) == 3)
    #expect(threads(["OMP_NUM_THREADS": "6,2"]) == 6)
    #expect(threads(["OMP_NUM_THREADS": "5", "OPENBLAS_NUM_THREADS": "2"]) == 2)
    #expect(threads(["OMP_NUM_THREADS": "64"]) == 8)
    #expect(threads(["OMP_NUM_THREADS": "none"]) == 8)
    #expect(threads(["OPENBLAS_NUM_THREADS": "1", "KINSHIP_REEXEC": "kernel"]) == 1)
    // The program itself sets the variable when it restarts.
    #expect(threads(["OPENBLAS_NUM_THREADS": "1", "KINSHIP_REEXEC": "kernel,threads"]) == 8)
    #expect(threads(["KINSHIP_THREADS": "4", "OMP_NUM_THREADS": "2"]) == 4)
    #expect(threads(["KINSHIP_THREADS": ""]) == 8)
    let many = Self.plans(node, ["KINSHIP_THREADS": "9"])[0]
    #expect(many.compute == 8)
    #expect(many.warnings == ["KINSHIP_THREADS=9 is more than the 8 cores this rank is bound to; 8 are used"])
    let none = Self.plans(node, ["KINSHIP_THREADS": "zero"])[0]
    #expect(none.compute == 8)
    #expect(
      none.warnings == ["KINSHIP_THREADS=zero is not a number of threads and is ignored; set it to 1 or more"])
  }

  @Test func refusedThreadsAreSaid() {
    let plan = Self.plans([Self.cores(0..<8, of: 8)])[0]
    #expect(plan.warning(using: 8) == nil)
    let warning = plan.warning(using: 2) ?? ""
    let words = "warning: 2 of 8 compute threads in use, because the system refuses more: the limit on the user's "
    #expect(warning.hasPrefix(words) && warning.contains("fewer threads (KINSHIP_THREADS)"), "\(warning)")
  }

  @Test func aTimeLimitCountsLikeCores() {
    let node = [Cores](repeating: Self.cores(0..<8, of: 8, quota: 5), count: 2)
    #expect(Self.plans(node).map(\.compute) == [2, 2])
    #expect(Self.plans(node)[0].warnings == [])
    let starved = [Cores](repeating: Self.cores(0..<8, of: 8, quota: 1.5), count: 2)
    #expect(Self.plans(starved).map(\.compute) == [1, 1])
    #expect(
      Self.plans(starved)[0].warnings == [
        "the container may use 1.5 cores' time for 2 ranks; give it more (docker run --cpus) or start fewer ranks"
      ])
  }

  @Test func wrongBindingsSayWhatToType() {
    func warnings(_ node: [Cores]) -> [String] { Self.plans(node)[0].warnings }
    #expect(
      warnings([Cores](repeating: Self.cores(0..<2, of: 2), count: 3)) == [
        "3 ranks share the 2 cores of this node and wait for each other; start at most 2 ranks a node"
      ])
    // mpirun -n 1 binds to one core.
    #expect(
      warnings([Self.cores(0..<1, of: 16)]) == [
        "this rank is bound to 1 of the node's 16 cores and 15 are idle; type mpirun --bind-to none"
      ])
    #expect(
      warnings([Self.cores(0..<1, of: 16), Self.cores(1..<2, of: 16)]) == [
        "this rank is bound to 1 of the node's 16 cores and 14 are idle;"
          + " type mpirun --map-by slot:PE=8 --bind-to core"
      ])
    // Two ranks bound to the same core.
    #expect(
      warnings([Self.cores(0..<1, of: 4), Self.cores(0..<1, of: 4)]) == [
        "ranks share cores while 3 of the node's 4 are idle; type mpirun --map-by slot:PE=2 --bind-to core"
      ])
    #expect(
      warnings([Self.cores(0..<1, of: 2), Self.cores(0..<1, of: 2)]) == [
        "ranks share cores while 1 of the node's 2 are idle; type mpirun --map-by slot:PE=1 --bind-to core"
      ])
    // The ranks are not bound, and there are as many cores as ranks.
    #expect(warnings([Self.cores(0..<2, of: 2), Self.cores(0..<2, of: 2)]) == [])
  }
}
