import ArgumentParser
import Dist
import Foundation
import Tensor

/// Benchmarks that scripts/bench runs.
struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measures this machine with Kinship's own work; see scripts/bench.",
    discussion: """
      Example:

        mpirun -n 2 kinship bench step --model ViT-T-16 --batch 32
      """,
    subcommands: [Step.self, Ranks.self, Exact.self, Teacher.self, ObjectiveTerms.self, Data.self])

  /// Reads --precision.
  @Sendable static func precision(_ name: String) throws -> ComputePrecision {
    guard let precision = ComputePrecision(rawValue: name) else {
      throw ValidationError("--precision is fp32 or bf16, not \(name)")
    }
    return precision
  }

  /// Runs a benchmark on all ranks, each with the threads of its cores. Rank 0 prints the benchmark's messages and,
  /// last, its report as one line of JSON.
  static func run<Report: Encodable>(
    _ bench: @escaping (Communicator, (String) -> Void) throws -> Report
  ) throws {
    let code = Job.run { communicator in
      let plan = try ThreadPlan.agreed(over: communicator)
      plan.apply()
      if communicator.rank == 0 { for warning in plan.warnings { print("warning: \(warning)") } }
      let report = try bench(communicator) { if communicator.rank == 0 { print($0) } }
      if communicator.rank == 0 {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        print(String(decoding: try encoder.encode(report), as: UTF8.self))
      }
      return 0
    }
    throw ExitCode(code)
  }
}
