import Foundation

/// What a file or folder is to come to.
struct FileCondition {
  /// Where events may bring it about.
  let path: String
  private var kind: Kind

  private enum Kind {
    case lines(GrowingFile, count: Int)
    case exists
    case entries(count: Int)
    case match(suffix: String)
  }

  init?(_ verb: String, _ words: [String], after lines: Int?) {
    guard let path = words.first, !path.isEmpty, verb == "lines" || lines == nil else { return nil }
    self.path = path
    switch (verb, words.count) {
    case ("lines", 3):
      guard let count = Int(words[1]) else { return nil }
      kind = .lines(GrowingFile(path: path, text: words[2], skipped: lines ?? 0), count: count)
    case ("path", 1): kind = .exists
    case ("entries", 2):
      guard let count = Int(words[1]) else { return nil }
      kind = .entries(count: count)
    case ("match", 2): kind = .match(suffix: words[1])
    default: return nil
    }
  }

  /// Returns whether it has come.
  mutating func holds() -> Bool {
    switch kind {
    case .lines(var file, let count):
      file.read()
      kind = .lines(file, count: count)
      return file.found >= count
    case .exists:
      // Also a link that leads nowhere.
      return (try? FileManager.default.attributesOfItem(atPath: path)) != nil
    case .entries(let count): return entries.count { !$0.hasPrefix(".") } >= count
    case .match(let suffix): return entries.contains { $0.hasSuffix(suffix) }
    }
  }

  private var entries: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [] }
}

/// Counts the whole lines with a text in a file that others append to. Reads every byte once.
struct GrowingFile {
  let path: String
  let text: String
  /// How many of the next lines do not count.
  var skipped: Int
  private(set) var found = 0
  private var offset: UInt64 = 0

  init(path: String, text: String, skipped: Int) {
    self.path = path
    self.text = text
    self.skipped = skipped
  }

  mutating func read() {
    guard let file = FileHandle(forReadingAtPath: path) else { return }
    defer { try? file.close() }
    guard (try? file.seek(toOffset: offset)) != nil, let new = try? file.readToEnd() else { return }
    let newline = UInt8(ascii: "\n")
    guard let end = new.lastIndex(of: newline) else { return }
    offset += UInt64(end - new.startIndex + 1)
    for line in new[..<end].split(separator: newline, omittingEmptySubsequences: false) {
      if skipped > 0 {
        skipped -= 1
      } else if String(decoding: line, as: UTF8.self).contains(text) {
        found += 1
      }
    }
  }
}
