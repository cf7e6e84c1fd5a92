import Dist
import Foundation

/// The lines of a file, one after the other, in bounded memory however long the file or a line is. What is written to
/// the file meanwhile is not seen.
struct LogLines {
  /// A line.
  enum Line {
    /// Its bytes, without the end of the line.
    case text(ArraySlice<UInt8>)
    /// It is longer than any line of ours.
    case tooLong
  }

  /// Lines of ours have a few thousand bytes; a list of changes may have more.
  static let longest = 1 << 20

  private let file: OpenFile
  private let size: Int
  private var offset = 0
  private var chunk: ArraySlice<UInt8> = []
  /// Whether the last line that was given lacks its end: it was being written when the run died, or is being written
  /// now.
  private(set) var isTorn = false

  init(_ path: String) throws(FileError) {
    file = try OpenFile.reading(path)
    size = try file.size()
  }

  /// The next line; nil at the end.
  mutating func next() throws(FileError) -> Line? {
    var line: ArraySlice<UInt8> = []
    var isTooLong = false
    while true {
      if let end = chunk.firstIndex(of: UInt8(ascii: "\n")) {
        line = line.isEmpty ? chunk[..<end] : line + chunk[..<end]
        chunk = chunk[(end + 1)...]
        return isTooLong || line.count > Self.longest ? .tooLong : .text(line)
      }
      line += chunk
      if line.count > Self.longest {
        isTooLong = true
        line = []
      }
      let count = min(size - offset, 1 << 20)
      chunk = try file.read(count, of: UInt8.self, at: offset)[...]
      offset += count
      if count == 0 {
        guard isTooLong || !line.isEmpty else { return nil }
        isTorn = true
        return isTooLong ? .tooLong : .text(line)
      }
    }
  }
}
