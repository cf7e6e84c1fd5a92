import Model

extension ObjectiveConfig {
  /// What is wrong in itself, by the path of the key to change.
  var mistakes: [(path: String, text: String)] { numberMistakes + emptyMistakes + intraMistakes }

  private var numberMistakes: [(path: String, text: String)] {
    var found: [(path: String, text: String)] = []
    func check(_ key: String, _ numbers: Scheduled<Double>?, _ wanted: String, _ isRight: (Double) -> Bool) {
      guard let numbers else { return }
      for (index, point) in numbers.points.enumerated() where !isRight(point.value) {
        let path = "objective.\(key)\(numbers.changes ? ".\(index).value" : "")"
        found.append((path, "expected \(wanted), found \(point.value)"))
      }
    }
    for (key, weight) in weights { check(key, weight, "a weight of 0 or more") { $0 >= 0 } }
    check("intra_options.image", intraOptions.image, "a weight of 0 or more") { $0 >= 0 }
    check("intra_options.text", intraOptions.text, "a weight of 0 or more") { $0 >= 0 }
    check("intra_options.tau", intraOptions.tau, "a temperature of more than 0") { $0 > 0 }
    check("intra_options.softmax_temperature", intraOptions.softmaxTemperature, "more than 0") { $0 > 0 }
    check("affinity_scale", affinityScale, "own, or more than 0") { $0 > 0 }
    // The parameter is kept within [0, ln 100] whether it is learned or not.
    check("logit_scale", logitScale, "learned, or 1 to 100") { (1...100).contains($0) }
    return found
  }

  private var emptyMistakes: [(path: String, text: String)] {
    if weights.allSatisfy({ $0.weight.points.allSatisfy { $0.value == 0 } }) {
      let keys = weights.map(\.key).joined(separator: ", ")
      return [("objective", "every weight is 0, so nothing is learned; give one of \(keys) a weight")]
    }
    let declared = declared
    if declared.intra > 0, declared.intraOptions.image == 0, declared.intraOptions.text == 0 {
      return [
        (
          "objective.intra_options",
          "image and text are both 0, so intra has no part; give one of them a weight, or set objective.intra to 0"
        )
      ]
    }
    return []
  }

  /// Schedules that a run of so many steps does not finish.
  func warnings(totalSteps: Int) -> [String] {
    Self.lastPoints(of: tree, "objective").filter { $0.step >= totalSteps }.map {
      "\($0.path): the last point (step \($0.step)) is not reached, for steps are 0 to \(totalSteps - 1); move it, or "
        + "train longer"
    }
  }

  /// Every key that has points, with the step of the last.
  private static func lastPoints(of tree: RunTree, _ path: String) -> [(path: String, step: Int)] {
    switch tree {
    case .scalar: return []
    case .section(let entries): return entries.flatMap { lastPoints(of: $0.value, "\(path).\($0.key)") }
    case .list(let points):
      guard case .section(let point) = points.last, case .scalar(let step, _) = point.first?.value else { return [] }
      return Int(step).map { [(path, $0)] } ?? []
    }
  }

  /// Switches that contradict each other, in the first step in which they do.
  private var intraMistakes: [(path: String, text: String)] {
    guard declared.intra > 0 else { return [] }
    for step in intraOptions.changes {
      let found = Self.contradictions(options(at: step).intraOptions)
      let when = step == 0 ? "" : " (from step \(step) on)"
      if !found.isEmpty { return found.map { ("objective.intra_options.\($0.key)", $0.text + when) } }
    }
    return []
  }

  private static func contradictions(_ intra: IntraOptions) -> [(key: String, text: String)] {
    var found: [(key: String, text: String)] = []
    func only(_ key: String, _ value: String, _ wanted: String, _ why: String) {
      if value != wanted { found.append((key, "\(why); set \(key) to \(wanted), found \(value)")) }
    }
    switch intra.granularity {
    case .row:
      if intra.weighting == .uniform {
        only("source", intra.source.rawValue, "intra_kl", "equal weights have no source")
      }
    case .pair:
      let why = "pairs are weighed by |p − q| over its sum, without gradient, on KL(teacher ‖ student)"
      only("weighting", intra.weighting.rawValue, "sum", why)
      only("weight_grad", "\(intra.weightGradient)", "false", why)
      only("source", intra.source.rawValue, "intra_kl", why)
      only("divergence", intra.divergence.rawValue, "kl_fwd", why)
    case .modality:
      let why = "a modality is weighed by its mean divergence over the sum of both"
      only("weighting", intra.weighting.rawValue, "sum", why)
      only("source", intra.source.rawValue, "intra_kl", why)
    }
    return found
  }
}
