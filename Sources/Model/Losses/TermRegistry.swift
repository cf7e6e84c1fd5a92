/// All terms of the objective.
public enum TermRegistry {
  /// The order in which terms add their gradients and stand in run files. Sums of floats depend on it: a new term goes
  /// to the end.
  static let all: [any TermSettings.Type] = [
    IntraSettings.self, ContrastiveSettings.self, CRDSettings.self, AffinitySettings.self, FDSettings.self,
    ICLSettings.self, CrossKDSettings.self, GDSettings.self, AFDSettings.self, RKDSettings.self,
  ]
}
