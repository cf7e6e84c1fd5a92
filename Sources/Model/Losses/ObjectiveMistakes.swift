internal import Settings

extension ObjectiveOptions {
  /// The invalid values, each with the path of the key to change.
  public var mistakes: [(path: String, text: String)] {
    (weightMistakes + emptyMistakes + all.flatMap(\.mistakes) + scaleMistakes).map {
      ($0.path.isEmpty ? "objective" : "objective.\($0.path)", $0.text)
    }
  }

  private var weightMistakes: [(path: String, text: String)] {
    all.flatMap { term in
      term.weight.mistakes(type(of: term).key, expected: "a weight of 0 or more") { $0 >= 0 }
    }
  }

  private var emptyMistakes: [(path: String, text: String)] {
    guard used.isEmpty else { return [] }
    let keys = Self.allKeys().joined(separator: ", ")
    return [("", "every weight is 0, so nothing is learned; give one of \(keys) a weight")]
  }

  private var scaleMistakes: [(path: String, text: String)] {
    // The parameter is kept within [0, ln 100] whether it is learned or not.
    fixedLogitScale?.mistakes("logit_scale", expected: "learned, or 1 to 100") { (1...100).contains($0) } ?? []
  }

  /// Returns a warning for every schedule whose last point lies beyond a run of `totalSteps` steps.
  public func warnings(totalSteps: Int) -> [String] {
    Self.lastPoints(of: tree, "objective").filter { $0.step >= totalSteps }.map {
      "\($0.path): the last point (step \($0.step)) is not reached, for steps are 0 to \(totalSteps - 1); move it, or "
        + "train longer"
    }
  }

  /// Returns every key with a list of points, and the step of its last point.
  private static func lastPoints(of tree: RunTree, _ path: String) -> [(path: String, step: Int)] {
    switch tree {
    case .scalar: return []
    case .section(let entries): return entries.flatMap { lastPoints(of: $0.value, "\(path).\($0.key)") }
    case .list(let points):
      guard case .section(let point) = points.last, case .scalar(let step, _) = point.first?.value else { return [] }
      return Int(step).map { [(path, $0)] } ?? []
    }
  }
}
