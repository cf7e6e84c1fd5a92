/// How gradients and parameters travel between ranks. Nothing of it changes what a run computes but by rounding.
struct ReduceConfig: Section {
  /// Whether they travel while the towers compute.
  var overlap = true
  /// MiB of gradients that travel at once; a parameter is not cut, so one that is larger travels alone.
  var bucket = 4.0

  mutating func fields(_ map: FieldMap) {
    map.field("overlap", &overlap)
    map.field("bucket", &bucket)
  }

  /// What is wrong, by the path of the key to change.
  var mistakes: [(path: String, text: String)] {
    bucket > 0 && bucket <= 1_048_576 ? [] : [("reduce.bucket", "expected MiB, more than 0, found \(bucket)")]
  }
}
