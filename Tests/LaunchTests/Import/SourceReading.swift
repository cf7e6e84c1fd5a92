import Testing

@testable import Launch

extension ImportSource {
  /// Returns all entries, and checks that the source counts them correctly.
  func all() throws -> [ImportEntry] {
    let next = try entries()
    var entries: [ImportEntry] = []
    while let entry = try next() { entries.append(entry) }
    #expect(entries.count == count)
    return entries
  }

  /// Returns all entries of a source that leaves nothing out.
  func items() throws -> [ImportItem] {
    try all().map {
      guard case .item(let item) = $0 else { throw UserError("test", "\($0)") }
      return item
    }
  }

  /// Returns a line for each entry: the key and the label or captions, or the place and the reason for its rejection.
  func outcome() throws -> [String] {
    try all().map { entry in
      switch entry {
      case .item(let item): "\(item.key): \(item.label.map { "\($0)" } ?? item.captions.joined(separator: " | "))"
      case .rejected(let rejection): "\(rejection.place): \(rejection.reason)"
      }
    }
  }
}

/// A thousand names in the form of WordNet ids, in order.
enum TestIDs {
  static let all = (0..<1000).map { index in
    let digits = String(1_440_764 + 37 * index)
    return "n" + String(repeating: "0", count: 8 - digits.count) + digits
  }
}
