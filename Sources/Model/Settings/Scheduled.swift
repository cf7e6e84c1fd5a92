/// A value that a run file may change over the steps.
public protocol Schedulable: FieldValue {
  /// Returns the value between two points, at the share 0 ..< 1 of the way from one to the next. By default the first
  /// point's value holds until the next point, as it must for words and switches.
  static func between(_ from: Self, _ to: Self, _ share: Double) -> Self
}

extension Schedulable {
  public static func between(_ from: Self, _ to: Self, _ share: Double) -> Self { from }
}

extension Double: Schedulable {
  /// Returns the value on the line between the two.
  public static func between(_ from: Double, _ to: Double, _ share: Double) -> Double { from + (to - from) * share }
}

extension Bool: Schedulable {}

/// One value for the whole run, or a list of points: `[{step: 0, value: 0}, {step: 1000, value: 2000}]`.
///
/// The first point's value also holds before it, the last point's after it; steps are counted from 0. As a property
/// wrapper it reads as the value of the step to which it was last advanced, initially step 0. `$name` is the schedule.
@propertyWrapper
public struct Scheduled<Value: Schedulable>: FieldValue {
  /// A value and the step, counted from 0, from which it holds or to which others lead.
  public struct Point: Sendable, Equatable {
    public var step: Int
    public var value: Value

    public init(step: Int, value: Value) { (self.step, self.value) = (step, value) }
  }

  /// The points, at least one, in rising order of their steps. A single point is a constant and is at step 0.
  public let points: [Point]
  private var step = 0

  public init(_ constant: Value) { points = [Point(step: 0, value: constant)] }
  public init(wrappedValue: Value) { self.init(wrappedValue) }

  /// Creates a schedule of at least one point; the steps must rise.
  public init(points: [Point]) {
    precondition(!points.isEmpty && zip(points, points.dropFirst()).allSatisfy { $0.step < $1.step })
    self.points = points.count == 1 ? [Point(step: 0, value: points[0].value)] : points
  }

  /// The value of the step to which the schedule was advanced. Setting it makes the schedule a constant.
  public var wrappedValue: Value {
    get { value(at: step) }
    set { self = Scheduled(newValue) }
  }

  public var projectedValue: Scheduled {
    get { self }
    set { self = newValue }
  }

  public mutating func advance(to step: Int) { self.step = step }
  /// True if there is more than one point.
  public var changes: Bool { points.count > 1 }
  /// The steps of the points.
  public var steps: [Int] { points.map(\.step) }

  /// Returns the value of a step: the first point's before it, the last point's after it, and `between` of the two
  /// about it.
  public func value(at step: Int) -> Value {
    guard let next = points.firstIndex(where: { $0.step > step }) else { return points[points.count - 1].value }
    guard next > 0 else { return points[0].value }
    let (from, to) = (points[next - 1], points[next])
    return .between(from.value, to.value, Double(step - from.step) / Double(to.step - from.step))
  }

  public static func == (one: Scheduled, other: Scheduled) -> Bool { one.points == other.points }

  public static var expectation: String { "\(Value.expectation) or \(alternative)" }
  private static var alternative: String { "a list of points (step, value)" }

  public static func read(_ node: RunNode, _ problems: Problems) -> Scheduled? {
    guard case .list(let nodes) = node.value else {
      problems.allow(alternative, at: node)
      return Value.read(node, problems).map { Scheduled($0) }
    }
    problems.note(node)
    if nodes.isEmpty {
      problems.add(node.place, "\(node.path): expected at least one point (step, value), found an empty list")
    }
    let points = nodes.compactMap { Draft.read($0, problems)?.point }
    guard !nodes.isEmpty, points.count == nodes.count else { return nil }
    for (index, point) in points.enumerated() {
      let before = index == 0 ? -1 : points[index - 1].step
      guard point.step <= before else { continue }
      let wanted = index == 0 ? "0 or more" : "a later step than \(before), that of the point before it"
      problems.add(nodes[index].place, "\(node.path).\(index).step: expected \(wanted), found \(point.step)")
      return nil
    }
    return Scheduled(points: points)
  }

  public var tree: RunTree {
    guard changes else { return points[0].value.tree }
    return .list(
      points.map { .section([.init(key: "step", value: $0.step.tree), .init(key: "value", value: $0.value.tree)]) })
  }

  /// A point that is being read.
  private struct Draft: Section {
    var step: Int?
    var value: Value?

    var point: Point? { step.flatMap { step in value.map { Point(step: step, value: $0) } } }
    static var expectation: String { "a point (step, value)" }

    mutating func fields(_ map: FieldMap) {
      map.required("step", &step, "the step from which the value holds, counted from 0")
      map.required("value", &value, Value.expectation)
    }
  }
}

/// A wrong value: the path of the key to change, and what is wrong with it.
public typealias Mistake = (path: String, text: String)

extension Scheduled<Double> {
  /// True if any point's value is not 0.
  public var isEverUsed: Bool { points.contains { $0.value != 0 } }

  /// Returns the points whose values are wrong.
  public func mistakes(_ path: String, expected: String, _ isRight: (Double) -> Bool) -> [Mistake] {
    points.enumerated().filter { !isRight($0.element.value) }.map { index, point in
      ("\(path)\(changes ? ".\(index).value" : "")", "expected \(expected), found \(point.value)")
    }
  }
}
