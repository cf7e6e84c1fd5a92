import Foundation

/// A file in which the system describes itself or a process, such as those in /proc.
enum SystemFile {
  /// Returns a file's whole text; nil if it cannot be read. The system hands such files out a page at a time and says
  /// that they have no bytes, and `String(contentsOfFile:)` takes the first page for all of them.
  static func text(_ path: String) -> String? {
    guard let bytes = try? FileHandle(forReadingAtPath: path)?.readToEnd() else { return nil }
    return String(decoding: bytes, as: UTF8.self)
  }
}
