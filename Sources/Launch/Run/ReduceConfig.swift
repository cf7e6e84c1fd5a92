import Settings

/// How gradients and parameters travel between ranks. Nothing of it changes what a run computes but by rounding.
struct ReduceConfig: Section {
  /// Whether they travel while the towers compute.
  var overlap = true
  /// MiB of gradients that travel at once; a parameter is not cut, so one that is larger travels alone.
  var bucket = 4.0
  /// Steps between two comparisons of all ranks' parameters; `none`: they are not compared.
  var checkEvery: Int? = 100

  mutating func fields(_ map: FieldMap) {
    map.field("overlap", &overlap)
    map.field("bucket", &bucket)
    map.optional("check_every", &checkEvery, none: "none")
  }

  /// What is wrong, by the path of the key to change.
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
