import Dist
import Foundation

/// The list of what was left out: `rejected.tsv` beside the index, with place, key and reason.
struct RejectionList {
  static let fileName = "rejected.tsv"

  /// How many entries were left out.
  private(set) var count = 0
  /// The first few, for the console.
  private(set) var first: [Rejection] = []
  private let path: String
  private var file: OpenFile?

  init(folder: String) { path = folder + "/" + Self.fileName }

  mutating func add(_ rejection: Rejection) throws {
    if file == nil {
      file = try OpenFile.creating(path)
      try write(["place", "key", "reason"])
    }
    try write([rejection.place, rejection.key, rejection.reason])
    count += 1
    if first.count < 5 { first.append(rejection) }
  }

  func sync() throws { try file?.sync() }

  private func write(_ fields: [String]) throws {
    let line = fields.map { String($0.map { $0.isNewline || $0 == "\t" ? " " : $0 }) }.joined(separator: "\t") + "\n"
    try file?.append([UInt8](line.utf8))
  }
}
