import ArgumentParser
import Dist
import Model
import Settings
import Tensor

/// The pairs of a step.
struct BatchConfig: Section {
  var global = 1024
  /// The pairs that a rank's towers process together, which bounds memory; `all`: the whole local batch.
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
  var note: String? {
    switch self {
    case .none: nil
    case .cheap: "recompute cheap: backward makes outputs of norms and activations again"
    case .blocks: "recompute blocks: of each block of the towers only the output is kept, and backward runs it again"
    }
  }
}

extension VisionConfig {
  /// A line about patch dropout for headings; nil without it.
  func dropoutNote(isFrozen: Bool = false) -> String? {
    guard patchDropout > 0 else { return nil }
    let effect =
      isFrozen
      ? "no effect, because the image tower is frozen"
      : "training computes \(trainedTokens - 1) of an image's \(tokens - 1) patches"
    return "patch dropout \(patchDropout): \(effect)"
  }
}

/// The precision of matrix products that a run file asks for.
enum PrecisionChoice: String, CaseIterable, FieldValue {
  case fp32, bf16
  /// bf16 where it is known to be faster on the processors of all ranks, fp32 elsewhere (`DecidedRun`).
  case auto

  init(_ precision: ComputePrecision) { self = precision == .bf16 ? .bf16 : .fp32 }

  /// The precision that is asked for; fp32 until `auto` is decided.
  var used: ComputePrecision { self == .bf16 ? .bf16 : .fp32 }
}

/// The levels in which ranks reduce gradients and gather parameters: all at once, or first within their nodes.
enum ReduceLevels: String, CaseIterable, FieldValue, ExpressibleByArgument {
  /// Two where ranks share nodes, there are several, and a model of usual links says that it is faster.
  case auto
  case one = "1"
  case two = "2"
}

/// The exchange of gradients and parameters between ranks, which changes a run's numbers by rounding at most.
struct ReduceConfig: Section {
  /// True to exchange them while the towers compute.
  var overlap = true
  /// The size of a bucket of gradients in MiB; a parameter is never divided, so a larger one is a bucket of its own.
  var bucket = 4.0
  static let buckets = 0...1_048_576.0
  /// The form of gradients on their way between ranks, or between nodes. In bf16, parameters that `precision: bf16`
  /// rounds anyway travel rounded too.
  var wire = WirePrecision.fp32
  var levels = ReduceLevels.auto
  /// The number of steps between two comparisons of all ranks' parameters; `none`: they are not compared.
  var checkEvery: Int? = 100

  mutating func fields(_ map: FieldMap) {
    map.field("overlap", &overlap)
    map.field("bucket", &bucket)
    map.field("wire", &wire)
    map.field("levels", &levels)
    map.optional("check_every", &checkEvery, none: "none")
  }

  var mistakes: [Mistake] {
    var found: [Mistake] = []
    found.expect("MiB, more than 0", "reduce.bucket", bucket) { $0 > 0 && Self.buckets ~= $0 }
    found.expect("at least 1 step, or none", "reduce.check_every", checkEvery) { $0 >= 1 }
    return found
  }
}

/// The reaction to a loss or gradient that is not finite. The short form `non_finite: skip` names the policy.
struct NonFiniteConfig: Section {
  var policy = Policy.stop
  /// The largest number of skipped steps in a row, or of returns to the same checkpoint.
  var limit = 5

  /// `stop` ends the run; `skip` leaves the step's update out; `rewind` goes back to the newest intact checkpoint, and
  /// continues with the data after the bad batch.
  enum Policy: String, CaseIterable, FieldValue { case stop, skip, rewind }

  mutating func fields(_ map: FieldMap) {
    map.field("policy", &policy)
    map.field("limit", &limit)
  }

  static var expectation: String { "stop, skip or rewind, or a section (policy, limit)" }
  static func shorthandKey(_ text: String) -> String? { "policy" }
}

/// The limit on the time that a job may go without progress.
struct WatchdogConfig: Section {
  /// The seconds without progress of a rank after which the job is ended; 0: never.
  var deadline = 600.0

  mutating func fields(_ map: FieldMap) { map.field("deadline", &deadline) }
}
