/// A value that a run file may change over the steps.
protocol Schedulable: FieldValue {
  /// What holds between two points, `share` of the way from one to the next, 0 ..< 1. A word or switch holds until the
  /// next point.
  static func between(_ from: Self, _ to: Self, _ share: Double) -> Self
}

extension Schedulable {
  static func between(_ from: Self, _ to: Self, _ share: Double) -> Self { from }
}

extension Double: Schedulable {
  /// On the line between the two.
  static func between(_ from: Double, _ to: Double, _ share: Double) -> Double { from + (to - from) * share }
}

extension Bool: Schedulable {}

/// One value for the whole run, or points: `[{step: 0, value: 0}, {step: 1000, value: 2000}]`.
///
/// Before the first point its value holds, after the last one that one's; steps are counted from 0.
struct Scheduled<Value: Schedulable>: FieldValue {
  struct Point: Sendable, Equatable {
    var step: Int
    var value: Value
  }

  /// At least one, in rising order of steps. One alone is a constant, and stands at step 0.
  let points: [Point]

  init(_ constant: Value) { points = [Point(step: 0, value: constant)] }

  /// `points` must rise in their steps and be at least one.
  init(points: [Point]) {
    precondition(!points.isEmpty && zip(points, points.dropFirst()).allSatisfy { $0.step < $1.step })
    self.points = points.count == 1 ? [Point(step: 0, value: points[0].value)] : points
  }

  var changes: Bool { points.count > 1 }

  func value(at step: Int) -> Value {
    guard let next = points.firstIndex(where: { $0.step > step }) else { return points[points.count - 1].value }
    guard next > 0 else { return points[0].value }
    let (from, to) = (points[next - 1], points[next])
    return .between(from.value, to.value, Double(step - from.step) / Double(to.step - from.step))
  }

  // MARK: In the run file

  static var expectation: String { "\(Value.expectation) or \(alternative)" }

  private static var alternative: String { "a list of points (step, value)" }

  static func read(_ node: RunNode, _ problems: Problems) -> Scheduled? {
    guard case .list(let nodes) = node.value else {
      problems.allow(alternative, at: node)
      return Value.read(node, problems).map { Scheduled($0) }
    }
    problems.note(node)
    guard !nodes.isEmpty else {
      problems.add(node.place, "\(node.path): expected at least one point (step, value), found an empty list")
      return nil
    }
    let points = nodes.compactMap { node in
      Draft.read(node, problems).flatMap { draft -> Point? in
        guard let step = draft.step, let value = draft.value else { return nil }
        return Point(step: step, value: value)
      }
    }
    guard points.count == nodes.count else { return nil }
    for (index, point) in points.enumerated() {
      let before = index == 0 ? -1 : points[index - 1].step
      guard point.step <= before else { continue }
      let wanted = index == 0 ? "0 or more" : "a later step than \(before), that of the point before it"
      problems.add(nodes[index].place, "\(node.path).\(index).step: expected \(wanted), found \(point.step)")
      return nil
    }
    return Scheduled(points: points)
  }

  var tree: RunTree {
    guard changes else { return points[0].value.tree }
    return .list(
      points.map { point in
        .section([.init(key: "step", value: point.step.tree), .init(key: "value", value: point.value.tree)])
      })
  }

  /// A point while it is read.
  private struct Draft: Section {
    var step: Int?
    var value: Value?

    static var expectation: String { "a point (step, value)" }

    mutating func fields(_ map: FieldMap) {
      map.required("step", &step, "the step from which the value holds, counted from 0")
      map.required("value", &value, Value.expectation)
    }
  }
}
