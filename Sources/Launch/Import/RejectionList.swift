import Dist

/// The entries that were left out: `rejected.tsv` beside the index, with place, key and reason. It is written under
/// another name until the dataset is complete, because the one of an earlier dataset belongs to that.
struct RejectionList {
  static let fileName = "rejected.tsv"
  private(set) var count = 0
  private(set) var first: [Rejection] = []
  private let folder: String
  private var file: OpenFile?

  init(folder: String) {
    self.folder = folder
    // A killed import may have left it behind.
    Self.removeDraft(in: folder)
  }

  private static func draft(in folder: String) -> String { "\(folder)/\(fileName).partial" }
  static func removeDraft(in folder: String) { try? Publish.removeAll(draft(in: folder)) }

  mutating func add(_ rejection: Rejection) throws {
    if file == nil {
      file = try OpenFile.creating(Self.draft(in: folder))
      try write(["place", "key", "reason"])
    }
    try write([rejection.place, rejection.key, rejection.reason])
    count += 1
    if first.count < 5 { first.append(rejection) }
  }

  /// Puts the list in the place of an earlier one; if nothing was left out, there is none.
  func publish() throws(FileError) {
    let path = "\(folder)/\(Self.fileName)"
    guard let file else { return try Publish.removeAll(path) }
    try file.sync()
    try Publish.rename(Self.draft(in: folder), to: path)
  }

  private func write(_ fields: [String]) throws {
    let line = fields.map { String($0.map { $0.isNewline || $0 == "\t" ? " " : $0 }) }.joined(separator: "\t") + "\n"
    try file?.append([UInt8](line.utf8))
  }
}
