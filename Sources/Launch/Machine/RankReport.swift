import Dist
import Foundation
import Tensor

/// What `doctor` knows of one rank.
struct RankReport: Sendable, Codable, Equatable {
  var rank: Int
  var hostname: String
  /// The first rank of its node: those share memory that MPI says do.
  var node: Int
  var host: Host
  var cores: Cores
  var plan: ThreadPlan
  /// What the binary was compiled for; nil where x86's levels mean nothing.
  var built: BLASKernel.Level?
  var kernel: String
  var kernelChoice: KernelChoice
  var blas: String
  /// Billions of operations a second of a single-precision matrix product: on one core, and on all of the plan.
  var oneCore: Double
  var allCores: Double
  /// The same on all of the plan's cores with operands rounded to bfloat16; nil where the processor has no such
  /// products.
  var allCoresRounded: Double?
  var mpi: String
  var hdf5: String

  /// The rank's processor, for `precision: auto`; nil where it is not known.
  var identified: RankProcessor? { host.identity.map { RankProcessor(hostname: hostname, processor: $0) } }

  /// Who chose the BLAS kernel.
  enum KernelChoice: String, Sendable, Codable { case openblas, kinship, user }

  /// Measures this rank, all ranks at the same time, as in a run. Every rank must call it.
  static func measure(over ranks: Communicator) throws -> RankReport {
    let plan = try ThreadPlan.agreed(over: ranks)
    let node = try ranks.nodes()[ranks.rank]
    try ranks.barrier()
    let oneCore = MatrixRate.measure(threads: 1)
    try ranks.barrier()
    let allCores = plan.compute == 1 ? oneCore : MatrixRate.measure(threads: plan.compute)
    try ranks.barrier()
    let rounded = RoundedProducts.instructions.map { _ in MatrixRate.measure(threads: plan.compute, .bf16) }
    let given = ProcessInfo.processInfo.environment[BLASKernel.variable].map { !$0.isEmpty } ?? false
    return RankReport(
      rank: ranks.rank, hostname: ranks.hostname, node: node,
      host: .current, cores: .current, plan: plan,
      built: Machine.builtLevel, kernel: BLAS.kernel,
      kernelChoice: Machine.choseKernel ? .kinship : given ? .user : .openblas,
      blas: BLAS.configuration.split(separator: " ").joined(separator: " "), oneCore: oneCore, allCores: allCores,
      allCoresRounded: rounded, mpi: Libraries.mpi, hdf5: Libraries.hdf5)
  }

  /// The reports of all ranks, in rank order, on every rank. Every rank must call it.
  static func gather(over ranks: Communicator) throws -> [RankReport] {
    let own = try JSONEncoder().encode(measure(over: ranks))
    return try ranks.allGather([UInt8](own)).map { try JSONDecoder().decode(RankReport.self, from: Data($0)) }
  }
}
