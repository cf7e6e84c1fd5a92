import Dist
import Tensor

extension Communicator {
  /// Returns the ranks' arithmetic: one if all have the same, else each rank's, in rank order. Every rank must call it.
  func arithmetic(_ precision: ComputePrecision) throws -> [Arithmetic] {
    let all = try allGather(Arithmetic(precision))
    return Set(all).count == 1 ? [all[0]] : all
  }
}

extension [Arithmetic] {
  /// The warning about ranks that differ; nil if none does.
  var warning: String? {
    guard Set(self).count > 1 else { return nil }
    let ranks = Dictionary(grouping: indices) { self[$0] }.sorted { $0.value[0] < $1.value[0] }
    let parts = ranks.map { "\($0.text) on \(Diagnosis.name($1))" }
    return "ranks differ in their arithmetic (\(parts.joined(separator: "; "))): only the same ranks on the same kinds "
      + "of processors give the same bits again"
  }

  /// Says how it differs from what a checkpoint has recorded; nil if it does not, or if the checkpoint has no record.
  func difference(from recorded: [Arithmetic]?) -> String? {
    guard let recorded, recorded != self else { return nil }
    let ranks = recorded.text == text ? ", on other ranks" : ""
    return "the arithmetic was \(recorded.text) and is \(text)\(ranks)"
  }
}
