import Model
import Settings
import Tensor

/// The pairs of a step.
struct BatchConfig: Section {
  /// The number of pairs in a step, over all ranks.
  var global = 1024
  /// The number of pairs that a rank's towers process together, which bounds memory; `all`: the whole local batch.
  var microBatchSize: Int?
  /// The activations that backward computes again instead of keeping them, which saves memory.
  var recompute = Recompute.none

  mutating func fields(_ map: FieldMap) {
    map.field("global", &global)
    map.optional("micro_batch_size", &microBatchSize, none: "all")
    map.field("activation_checkpointing", &recompute)
  }
}

extension Recompute {
  /// The line in the run's header; nil if nothing is recomputed.
  var note: String? {
    switch self {
    case .none: nil
    case .cheap: "recompute cheap: backward makes outputs of norms and activations again"
    case .blocks: "recompute blocks: of each block of the towers only the output is kept, and backward runs it again"
    }
  }
}

/// The precision of matrix products that a run file asks for.
enum PrecisionChoice: String, CaseIterable, FieldValue {
  case fp32
  case bf16
  /// bf16 where it is known to be faster on the processors of all ranks, fp32 elsewhere (`DecidedRun`).
  case auto

  init(_ precision: ComputePrecision) {
    switch precision {
    case .fp32: self = .fp32
    case .bf16: self = .bf16
    }
  }

  /// The precision that is asked for; fp32 until `auto` is decided.
  var used: ComputePrecision { self == .bf16 ? .bf16 : .fp32 }
}

/// The exchange of gradients and parameters between ranks, which changes a run's numbers by rounding at most.
struct ReduceConfig: Section {
  /// True to exchange them while the towers compute.
  var overlap = true
  /// The size of a bucket of gradients in MiB; a parameter is never divided, so a larger one is a bucket of its own.
  var bucket = 4.0
  /// The number of steps between two comparisons of all ranks' parameters; `none`: they are not compared.
  var checkEvery: Int? = 100

  mutating func fields(_ map: FieldMap) {
    map.field("overlap", &overlap)
    map.field("bucket", &bucket)
    map.optional("check_every", &checkEvery, none: "none")
  }

  /// The mistakes, by the path of the key to change.
  var mistakes: [(path: String, text: String)] {
    var found: [(path: String, text: String)] = []
    if bucket <= 0 || bucket > 1_048_576 {
      found.append(("reduce.bucket", "expected MiB, more than 0, found \(bucket)"))
    }
    if let checkEvery, checkEvery < 1 {
      found.append(("reduce.check_every", "expected at least 1 step, or none, found \(checkEvery)"))
    }
    return found
  }
}

/// The reaction to a loss or gradient that is not finite. The short form `non_finite: skip` names the policy.
struct NonFiniteConfig: Section {
  var policy = Policy.stop
  /// The largest number of skipped steps in a row, or of returns to the same checkpoint.
  var limit = 5

  enum Policy: String, CaseIterable, FieldValue {
    /// The run ends.
    case stop
    /// The step's update is skipped.
    case skip
    /// The run goes back to its newest intact checkpoint, and continues with the data after the bad batch.
    case rewind
  }

  mutating func fields(_ map: FieldMap) {
    map.field("policy", &policy)
    map.field("limit", &limit)
  }

  static var expectation: String { "stop, skip or rewind, or a section (policy, limit)" }

  static func shorthandKey(_ text: String) -> String? { "policy" }

  /// The mistakes, by the path of the key to change.
  var mistakes: [(path: String, text: String)] {
    limit >= 1 ? [] : [("non_finite.limit", "expected at least 1, found \(limit)")]
  }
}

/// The limit on the time that a job may go without progress.
struct WatchdogConfig: Section {
  /// The seconds without progress of a rank after which the job is ended; 0: never.
  var deadline = 600.0

  mutating func fields(_ map: FieldMap) { map.field("deadline", &deadline) }
}
