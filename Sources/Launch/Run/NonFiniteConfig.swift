import Settings

/// What happens where a loss or gradient is not finite. The short form `non_finite: skip` names the policy.
struct NonFiniteConfig: Section {
  var policy = Policy.stop
  /// How often in a row it may happen: steps left out one after another, or returns to the same checkpoint.
  var limit = 5

  enum Policy: String, CaseIterable, FieldValue {
    /// The run ends.
    case stop
    /// The step's update is left out.
    case skip
    /// The run goes back to its newest sound checkpoint, and on with the data that come after the bad batch.
    case rewind
  }

  mutating func fields(_ map: FieldMap) {
    map.field("policy", &policy)
    map.field("limit", &limit)
  }

  static var expectation: String { "stop, skip or rewind, or a section (policy, limit)" }

  static func shorthandKey(_ text: String) -> String? { "policy" }

  /// What is wrong, by the path of the key to change.
  var mistakes: [(path: String, text: String)] {
    limit >= 1 ? [] : [("non_finite.limit", "expected at least 1, found \(limit)")]
  }
}
