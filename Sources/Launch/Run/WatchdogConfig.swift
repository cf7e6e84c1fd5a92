import Settings

/// When a job that stands still is ended.
struct WatchdogConfig: Section {
  /// Seconds without any progress of a rank; 0: never.
  var deadline = 600.0

  mutating func fields(_ map: FieldMap) { map.field("deadline", &deadline) }
}
