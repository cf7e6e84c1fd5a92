public import Settings

/// A number for each of red, green and blue.
///
/// Preparation computes with Float. A run file keeps the digits that it was given: the Float nearest to 0.48145466
/// would be written as 0.48145467. Equal settings have equal Floats.
@propertyWrapper
public struct ChannelSetting: FieldValue {
  /// The list as a run file writes it, three numbers if it is valid.
  public private(set) var numbers: [Double]

  public init(_ numbers: [Double]) { self.numbers = numbers }

  public var wrappedValue: [Float] {
    get { numbers.map { Float($0) } }
    set { numbers = newValue.map { Double($0.description) ?? Double($0) } }
  }

  public var projectedValue: ChannelSetting {
    get { self }
    set { self = newValue }
  }

  public static func == (one: ChannelSetting, other: ChannelSetting) -> Bool { one.wrappedValue == other.wrappedValue }

  public static var expectation: String { [Double].expectation }

  public static func read(_ node: RunNode, _ problems: Problems) -> ChannelSetting? {
    [Double].read(node, problems).map { ChannelSetting($0) }
  }

  public var tree: RunTree { numbers.tree }
}

/// A range of positive numbers, which a run file writes as [from, to].
///
/// Mistakes in a run file are gathered and reported together, so a list is stored before it is checked. Reading
/// `wrappedValue` traps unless `isPositive` accepts the list.
@propertyWrapper
public struct RangeSetting: FieldValue {
  /// The list as a run file writes it.
  public private(set) var numbers: [Double]

  public init(wrappedValue: ClosedRange<Double>) { numbers = [wrappedValue.lowerBound, wrappedValue.upperBound] }

  private init(numbers: [Double]) { self.numbers = numbers }

  public var wrappedValue: ClosedRange<Double> {
    get { numbers[0]...numbers[1] }
    set { self = RangeSetting(wrappedValue: newValue) }
  }

  public var projectedValue: RangeSetting {
    get { self }
    set { self = newValue }
  }

  /// Returns whether the list is a range within (0, limit].
  func isPositive(upTo limit: Double) -> Bool {
    numbers.count == 2 && numbers[0] > 0 && numbers[0] <= numbers[1] && numbers[1] <= limit
  }

  public static var expectation: String { [Double].expectation }

  public static func read(_ node: RunNode, _ problems: Problems) -> RangeSetting? {
    [Double].read(node, problems).map { RangeSetting(numbers: $0) }
  }

  public var tree: RunTree { numbers.tree }
}

extension ColorJitter: Section {
  public init() { self.init(brightness: 0) }

  public mutating func fields(_ map: FieldMap) {
    map.field("brightness", &brightness)
    map.field("contrast", &contrast)
    map.field("saturation", &saturation)
    map.field("hue", &hue)
    map.field("probability", &probability)
  }
}

extension AlphaHandling: FieldValue {}

extension ExifHandling: FieldValue {}
