import Dist
import Foundation
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Runs the real program as a user does.
@Suite struct DoctorTests {
  private struct Report: Decodable {
    var ranks: [RankReport]
    var findings: [String]
  }

  /// Runs `kinship doctor --json`; OpenBLAS says on standard error which kernels it loads, at every start.
  private static func doctor(
    ranks: Int?, coreType: String?, _ more: [String: String] = [:]
  ) async throws -> (report: Report, kernelsLoaded: [String]) {
    let environment = ["OPENBLAS_VERBOSE": "2"].merging(more) { $1 }.merging(
      coreType.map { [BLASKernel.variable: $0] } ?? [:]
    ) { $1 }
    let run = try await MPIRun.kinship(
      ["doctor", "--json"], ranks: ranks, environment: environment,
      without: coreType == nil ? [BLASKernel.variable] : [])
    try #require(run.status == 0, "\(run)")
    let loaded = run.errors.split(separator: "\n").filter { $0.hasPrefix("Core: ") }.map { String($0.dropFirst(6)) }
    let line = try #require(run.output.split(separator: "\n").last)
    return (try JSONDecoder().decode(Report.self, from: Data(line.utf8)), loaded)
  }

  @Test func aloneItHasTheKernelsThatSuitTheProcessor() async throws {
    let (report, _) = try await Self.doctor(ranks: nil, coreType: nil)
    let rank = try #require(report.ranks.first)
    #expect(report.ranks.count == 1 && rank.kernelChoice != .user)
    #expect(BLASKernel.level(of: rank.kernel).map { $0 >= rank.host.level } ?? true)
    #expect(rank.oneCore > 0 && rank.allCores > 0 && rank.plan.compute <= rank.cores.bound.count)
    #expect(rank.oneDNN == .oneDNN)
    #expect(rank.path(of: "libmpi").map { FileManager.default.fileExists(atPath: $0) } ?? false)
    #expect(rank.mpi.contains("MPI") && rank.hdf5.contains(".") && rank.blas.contains("OpenBLAS"))
    #expect(rank.oneDNN?.version.contains(/^[23]\.\d+\.\d+$/) == true)
  }

  @Test(arguments: [nil, 2]) func anEmptyVariableIsNone(ranks: Int?) async throws {
    let (unset, _) = try await Self.doctor(ranks: ranks, coreType: nil)
    let (empty, _) = try await Self.doctor(ranks: ranks, coreType: "")
    #expect(empty.ranks.count == ranks ?? 1)
    #expect(empty.ranks.map(\.kernel) == unset.ranks.map(\.kernel))
    #expect(empty.ranks.map(\.kernelChoice) == unset.ranks.map(\.kernelChoice))
  }

  @Test func theUsersKernelsAreKept() async throws {
    let (report, loaded) = try await Self.doctor(ranks: 2, coreType: "Prescott")
    #expect(report.ranks.map(\.kernel) == ["Prescott", "Prescott"] && loaded == ["Prescott", "Prescott"])
    #expect(report.ranks.allSatisfy { $0.kernelChoice == .user })
  }

  @Test(.betterKernels) func kernelsOfTheUsersBelowTheProcessorAreAFinding() async throws {
    let (report, _) = try await Self.doctor(ranks: 2, coreType: "Prescott")
    #expect(
      report.findings.contains {
        $0.hasPrefix("OPENBLAS_CORETYPE=Prescott is below what the processor supports; unset it, or type")
      })
  }

  /// A library before OpenBLAS answers like an older OpenBLAS on a newer processor: the program must restart once, with
  /// better kernels, and not again although the answer stays the same.
  @Test(.betterKernels, arguments: [nil, 2]) func kernelsBelowTheProcessorAreReplacedOnce(ranks: Int?) async throws {
    let folder = try TemporaryFolder()
    let source = try folder.write(
      "old.c", Data("char *openblas_get_corename(void) { return \"Prescott\"; }\n".utf8))
    let library = folder.path("old.so")
    let compiler = try await MPIRun.execute(["clang", "-shared", "-fPIC", "-o", library, source], [:])
    try #require(compiler.status == 0, "\(compiler)")
    let (report, loaded) = try await Self.doctor(ranks: ranks, coreType: nil, ["LD_PRELOAD": library])
    let better = BLASKernel.best(for: Machine.level)
    let count = ranks ?? 1
    #expect(report.ranks.count == count && report.ranks.allSatisfy { $0.kernelChoice == .kinship })
    #expect(loaded.count == 2 * count && loaded.count { $0 == better } >= count)
  }

  /// Stand-ins for the programs of a package: they differ in a byte at their end, which does not change them.
  @Test func programsOfAPackageAreKnownByItsList() async throws {
    let folder = try TemporaryFolder()
    let program = try Data(contentsOf: URL(filePath: MPIRun.path(of: "kinship")))
    var (commands, list): ([[String]], String) = ([], "")
    for (level, bytes) in [("x86-64-v3", program), ("x86-64-v4", program + [0])] {
      let path = try folder.write("programs/\(level)/kinship", bytes)
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
      commands.append([path, "doctor", "--json"])
      list += "\(SHA256.hash(bytes).hexadecimal)  \(level)/kinship\n"
    }
    // A list that does not have the second program says nothing about it.
    for (list, others) in [(list, false), (String(list.prefix { $0 != "\n" }), true)] {
      try folder.write("programs/programs.sha256", list.utf8)
      let run = try await MPIRun.execute(MPIRun.ranks(commands), ranks: 2)
      try #require(run.status == 0, "\(run)")
      let line = try #require(run.output.split(separator: "\n").last)
      let found = try JSONDecoder().decode(Report.self, from: Data(line.utf8)).findings
      #expect(found.contains { $0.contains("other builds than rank 0") } == others, "\(found)")
      #expect(found.contains { $0.hasPrefix("ranks run different programs of one package (") } != others, "\(found)")
    }
  }

  @Test func peopleReadTheSame() async throws {
    let run = try await MPIRun.kinship(
      ["doctor"], ranks: 2, environment: ["OPENBLAS_CORETYPE": "Haswell", "HDF5_USE_FILE_LOCKING": "maybe"])
    try #require(run.status == 0, "\(run)")
    let lines = run.output.split(separator: "\n", omittingEmptySubsequences: false)
    #expect(lines.first == "kinship \(Release.version), 2 ranks")
    #expect(lines.contains("  BLAS kernel    Haswell, set in OPENBLAS_CORETYPE"))
    #expect(lines.contains { $0.hasPrefix("     1 ") && $0.contains("Haswell") })
    #expect(lines.contains { $0.contains(/^  MPI +Open MPI v\S+, from \/\S+\/libmpi\.so/) })
    #expect(lines.contains("Problems:"))
    #expect(
      lines.contains(
        "- HDF5_USE_FILE_LOCKING=maybe is not a value that HDF5 knows; set TRUE, FALSE or BEST_EFFORT"))
  }
}

@Suite struct DiagnosisTests {
  static func report(_ rank: Int, _ change: (inout RankReport) -> Void = { _ in }) -> RankReport {
    let cores = Cores(bound: [rank], node: 4)
    var report = RankReport(
      rank: rank, hostname: "node", node: 0,
      host: Host(
        boot: "b", processor: "P", level: .avx512, sharedMemory: 2 << 30, sharedMemoryFree: 2 << 30,
        fileLocking: nil, container: false, root: false, missingVariables: []), cores: cores,
      plan: ThreadPlan(
        rank: rank, node: (0..<4).map { Cores(bound: [$0], node: 4) }, environment: [:]),
      built: .avx512, kernel: "SkylakeX", kernelChoice: .openblas, blas: "OpenBLAS 0.3.21 DYNAMIC_ARCH", oneCore: 100,
      allCores: 100, mpi: "Open MPI v4.1.4", hdf5: "1.10.8")
    change(&report)
    return report
  }

  static func findings(_ change: (inout RankReport) -> Void) -> [String] {
    Diagnosis.findings((0..<4).map { report($0, change) })
  }

  @Test func nothingIsWrong() { #expect(Self.findings { _ in } == []) }

  @Test func everyFindingSaysWhatToType() {
    #expect(
      Self.findings { $0.kernel = "Haswell" } == [
        "OpenBLAS runs Haswell kernels, but the processor supports SkylakeX; type export OPENBLAS_CORETYPE=SkylakeX"
      ])
    #expect(
      Self.findings {
        $0.kernel = "Nehalem"
        $0.blas = "OpenBLAS 0.3.21"
      } == [
        "this OpenBLAS was built for Nehalem only, but the processor supports SkylakeX; install one that chooses its"
          + " kernels at run time (apt install libopenblas0-pthread)"
      ])
    #expect(
      Self.findings { $0.built = .avx2 } == [
        "this binary was built for x86-64-v3, but the processor supports x86-64-v4; build it here, or with"
          + " KINSHIP_MARCH=x86-64-v4"
      ])
    #expect(
      Self.findings { $0.built = .baseline } == [
        "this binary was built without AVX2 and FMA, and its vector loops are many times slower; build it with"
          + " KINSHIP_MARCH=native or KINSHIP_MARCH=x86-64-v3"
      ])
    #expect(
      Self.findings { $0.host.sharedMemory = 64 << 20 } == [
        "/dev/shm holds 64 MiB, too little for ranks to share a teacher; start the container with --shm-size=2g,"
          + " or mount -o remount,size=2g /dev/shm"
      ])
    #expect(
      Self.findings {
        $0.host.root = true
        $0.host.missingVariables = ["OMPI_ALLOW_RUN_AS_ROOT=1"]
      } == ["mpirun as root needs: export OMPI_ALLOW_RUN_AS_ROOT=1"])
    #expect(
      Self.findings {
        $0.plan.compute = 4
        $0.allCores = 150
      } == [
        "4 threads reach less than half of 4 times the speed of one; look for other work on these cores (top),"
          + " or give the rank cores of its own (mpirun --bind-to core)"
      ])
  }

  @Test func ranksThatDifferAreNamed() {
    #expect(
      Self.findings { if $0.rank != 2 { $0.kernel = "Cooperlake" } } == [
        "ranks differ in BLAS kernels (Cooperlake on ranks 0-1, 3, SkylakeX on rank 2); set the same"
          + " OPENBLAS_CORETYPE everywhere (mpirun -x), or results differ in their last bits"
      ])
    #expect(
      Self.findings {
        $0.oneDNN = .oneDNN
        if $0.rank > 1 { $0.oneDNN?.instructions = "neon" }
      } == [
        "ranks differ in oneDNN (\(Arithmetic.Library.oneDNN.text) on ranks 0-1, oneDNN "
          + "\(Arithmetic.Library.oneDNN.version) (neon) on ranks 2-3); install the same release on every node, and set"
          + " the same ONEDNN_MAX_CPU_ISA (mpirun -x), or results differ in their last bits"
      ])
    #expect(
      Self.findings { if $0.rank == 3 { $0.host.fileLocking = "on" } } == [
        "rank 3: HDF5_USE_FILE_LOCKING=on is not a value that HDF5 knows; set TRUE, FALSE or BEST_EFFORT"
      ])
    #expect(
      Self.findings { if $0.rank == 0 { $0.mpi = "Open MPI v5.0.0" } } == [
        "ranks differ in the MPI library (Open MPI v5.0.0 on rank 0, Open MPI v4.1.4 on ranks 1-3);"
          + " install the same release on every node"
      ])
  }
}
