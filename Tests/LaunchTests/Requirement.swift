import Tensor
import TestSupport
import Testing

@testable import Launch

/// A trait of tests that need what not every machine has. Where it is missing they are skipped, and the report names
/// each of them with the reason.
struct Requirement: TestTrait, SuiteTrait {
  let isRecursive = true
  private let trial: Trial

  /// - Parameter attempt: tries whether the machine has it, and returns the reason why not.
  init(_ attempt: @escaping @Sendable () async throws -> String?) { trial = Trial(attempt) }

  func prepare(for test: Test) async throws {
    if let reason = try await trial.reason() { try Test.cancel(Comment(rawValue: reason)) }
  }

  /// Tries once, when the first test that is about to run asks.
  private actor Trial {
    private let attempt: @Sendable () async throws -> String?
    private var result: Task<String?, any Error>?

    init(_ attempt: @escaping @Sendable () async throws -> String?) { self.attempt = attempt }

    func reason() async throws -> String? {
      let task = result ?? Task { [attempt] in try await attempt() }
      result = task
      return try await task.value
    }
  }
}

extension Requirement {
  /// Hosts that are network namespaces of this machine.
  static let hosts = Requirement { try await VirtualCluster.refusal() }
  /// Such hosts, with links that can be made slower.
  static let hostsWithBandwidth = Requirement { try await VirtualCluster.refusal(["--bandwidth", "1gbit"]) }
  /// Such hosts, with Slurm on them.
  static let slurm = Requirement { try await VirtualCluster.refusal(["--slurm"]) }

  static let browser = Requirement {
    // `env` ends with 126 or 127 where it cannot start the program; any other error is one for the tests to meet.
    let trial = try await MPIRun.execute(["env", Browser.program, "--version"])
    return [126, 127].contains(trial.status)
      ? "\(Browser.program) cannot be started; type: apt-get install \(Browser.program)" : nil
  }
}

extension Trait where Self == Requirement {
  static func requires(_ requirement: Requirement) -> Self { requirement }
}

extension Trait where Self == ConditionTrait {
  /// For tests of programs that round to bfloat16. On other processors they compute in fp32, which `OlderProcessor`
  /// lets tests see on any.
  static var bfloat16Products: Self {
    .enabled(
      if: RoundedProducts.instructions != nil,
      "this processor has no products of bfloat16 (AVX-512 bf16 or AMX)")
  }

  /// For tests of what the program does about BLAS kernels that are below the processor.
  static var betterKernels: Self {
    .enabled(if: Machine.level > .baseline, "this processor has no better kernels than Prescott's")
  }
}

/// A processor without products of bfloat16.
enum OlderProcessor {
  /// Makes any processor count as one: oneDNN is told to use no instructions newer than AVX2.
  static let environment = ["ONEDNN_MAX_CPU_ISA": "AVX2"]
}
