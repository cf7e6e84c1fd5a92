import Settings
import Tensor

/// The precision that a run file asks of matrix products.
enum PrecisionChoice: String, CaseIterable, FieldValue {
  case fp32
  case bf16
  /// bf16 where it is known to be faster on the processors of all ranks, fp32 elsewhere (`DecidedRun`).
  case auto

  init(_ precision: Precision) {
    switch precision {
    case .fp32: self = .fp32
    case .bf16: self = .bf16
    }
  }

  /// The precision that is asked for; fp32 as long as nothing is decided.
  var used: Precision { self == .bf16 ? .bf16 : .fp32 }
}
