import Testing

@testable import Launch

extension ImportSource {
  /// All entries, whose number is what the source says.
  func all() throws -> [ImportEntry] {
    var reader = try entries()
    var entries: [ImportEntry] = []
    while let entry = try reader.next() { entries.append(entry) }
    #expect(entries.count == count)
    return entries
  }

  /// All entries of a source that leaves nothing out.
  func items() throws -> [ImportItem] {
    try all().map {
      guard case .item(let item) = $0 else { throw ImportError("test", "\($0)") }
      return item
    }
  }

  /// What is taken, by key, and what is left out, by place, each with what matters of it.
  func outcome() throws -> [String] {
    try all().map { entry in
      switch entry {
      case .item(let item): "\(item.key): \(item.label.map { "\($0)" } ?? item.captions.joined(separator: " | "))"
      case .rejected(let rejection): "\(rejection.place): \(rejection.reason)"
      }
    }
  }
}

/// A thousand names of the form of WordNet ids, in their order.
enum TestIDs {
  static let all = (0..<1000).map { index in
    let digits = String(1_440_764 + 37 * index)
    return "n" + String(repeating: "0", count: 8 - digits.count) + digits
  }
}
