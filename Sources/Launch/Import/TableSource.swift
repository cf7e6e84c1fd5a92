import Dist
import Foundation
import Settings

/// A CSV or TSV table with one image a line, or a line for each of an image's captions. The table is read twice: first
/// for the keys, the labels and the count, then for the images. Only the captions of an image's further lines are held
/// in memory.
struct TableSource: ImportSource {
  let path: String
  let separator: UInt8
  let labeled: Bool
  private(set) var count = 0
  private(set) var labels: [String] = []
  private let dataset: String
  private let quoted: Bool
  private let layout: TableLayout
  /// The further lines of images by the identity of their key.
  private var further: [UInt64: FurtherLines] = [:]

  private struct FurtherLines {
    /// The image's first line, and the first further one that has a label.
    let first: Int
    var labeled = 0
    var label = ""
    var captions: [String] = []
  }

  /// Reads the table once and checks that the columns exist and no key comes twice. Without a separator the file's name
  /// decides (a comma for `.csv`, else a tab), unless only another one makes the header name the column of the images.
  init(_ path: String, dataset: String, columns: TableColumns, separator: UInt8? = nil, quoted: Bool = true) throws {
    (self.path, self.dataset, self.quoted, labeled) = (path, dataset, quoted, columns.label != nil)
    let found = try Self.header(path, naming: columns.image, separator: separator, quoted: quoted)
    self.separator = found.separator
    layout = try TableLayout(columns, header: found.names, path: path)
    try survey(keyed: columns.key != nil)
  }

  /// Returns the separator of a table that has a certain column, and the names of all its columns.
  static func header(
    _ path: String, naming column: String, separator: UInt8?, quoted: Bool
  ) throws -> (separator: UInt8, names: [String]) {
    let usual = path.lowercased().hasSuffix(".csv") ? ",\t;" : "\t,;"
    let candidates = separator.map { [$0] } ?? Array(usual.utf8)
    // With the wrong separator, quotes may seem to be misplaced.
    let headers = candidates.map { separator in
      Result { try Self.names(path, separator: separator, quoted: quoted, expected: column) }
    }
    let choice = headers.firstIndex { (try? $0.get())?.contains(column) == true } ?? 0
    return (candidates[choice], try headers[choice].get())
  }

  private static func names(_ path: String, separator: UInt8, quoted: Bool, expected: String) throws -> [String] {
    var reader = try DelimitedReader(path, separator: separator, quoted: quoted)
    guard let record = try reader.next() else { throw UserError(path, "the table is empty") }
    let names = record.fields.compactMap { String(validating: $0, as: UTF8.self) }
    let hasZero = record.fields.joined().contains(0)
    guard names.count == record.fields.count, !hasZero else {
      let what = hasZero ? "holds a zero byte" : "is not UTF-8"
      throw UserError(path, "its header \(what); expected a table with the column \"\(expected)\"")
    }
    return names.map { $0.trimmingCharacters(in: .whitespaces) }
  }

  private mutating func survey(keyed: Bool) throws {
    // The line and a hash of the image's path by the key's identity: 16 bytes for each key, however long it is.
    var seen: [UInt64: (line: UInt32, image: UInt32)] = [:]
    var column = LabelColumn(path: path)
    var reader = try records()
    while let record = try reader.next() {
      count += 1
      guard let row = try? layout.row(record) else { continue }
      try column.note(row.label, line: record.line)
      let identity = Dataset.sampleID(dataset: dataset, key: key(row))
      let image = UInt32(truncatingIfNeeded: row.path.hashValue)
      guard let earlier = seen[identity] else {
        seen[identity] = (UInt32(truncatingIfNeeded: record.line), image)
        continue
      }
      guard earlier.image == image else {
        let advice = keyed ? "keys must be unique" : "name a column of unique keys with --key-column"
        throw UserError(
          path, "lines \(earlier.line) and \(record.line) have the same key \"\(key(row))\"; \(advice)")
      }
      count -= 1
      var lines = further[identity] ?? FurtherLines(first: Int(earlier.line))
      lines.captions += row.captions
      if lines.label.isEmpty { (lines.label, lines.labeled) = (row.given, record.line) }
      try requireSame(row.given, record.line, lines.label, lines.labeled)
      further[identity] = lines
    }
    guard count > 0 else { throw UserError(path, "has a header and nothing below it") }
    labels = column.names.sortedByBytes()
  }

  /// Throws if two lines of an image have different labels.
  private func requireSame(_ label: String, _ line: Int, _ other: String, _ otherLine: Int) throws(UserError) {
    guard label != other, !label.isEmpty, !other.isEmpty else { return }
    let lines = "lines \(min(line, otherLine)) and \(max(line, otherLine))"
    throw UserError(path, "\(lines) give the same image the labels \"\(other)\" and \"\(label)\"; an image has one")
  }

  private func records() throws -> DelimitedReader {
    var reader = try DelimitedReader(path, separator: separator, quoted: quoted)
    _ = try reader.next()
    return reader
  }

  /// Returns the key in its column, or else the image's path relative to the table's folder.
  private func key(_ row: TableLayout.Row) -> String {
    if let key = row.key { return key }
    let folder = Publish.folder(of: path) + "/"
    return SampleKey.from(path: row.path.hasPrefix(folder) ? String(row.path.dropFirst(folder.count)) : row.path)
  }

  func entries() throws -> ImportReader {
    var records = try self.records()
    let numbers = labels.positions
    return {
      while let record = try records.next() {
        if let entry = try entry(record, numbers) { return entry }
      }
      return nil
    }
  }

  /// Returns the entry of a record, or nil for a further line of an image.
  /// - Parameter numbers: the label of each class's name.
  private func entry(_ record: DelimitedReader.Record, _ numbers: [String: Int]) throws(UserError) -> ImportEntry? {
    let place = "line \(record.line)"
    var row: TableLayout.Row
    do throws(ImportReason) { row = try layout.row(record) } catch {
      return .leftOut(place, key: "", error.words)
    }
    let key = key(row)
    if !further.isEmpty, let lines = further[Dataset.sampleID(dataset: dataset, key: key)] {
      guard lines.first == record.line else { return nil }
      try requireSame(lines.label, lines.labeled, row.given, record.line)
      row.captions += lines.captions
      if row.given.isEmpty { row.label = lines.label }
    }
    let label = numbers[row.given] ?? Int(row.given)
    let image = row.path.withHome
    let path = image.hasPrefix("/") ? image : Publish.folder(of: path) + "/" + image
    return ImportEntry(
      ImportItem(
        place: place, path: path, key: key, captions: row.captions, label: label,
        values: row.values.map(ColumnValue.init(text:))))
  }
}

/// The labels of a column: whole numbers, which stand as they are, or names. A column of both is refused, because one
/// odd field would give all others new numbers.
private struct LabelColumn {
  let path: String
  private(set) var names: Set<String> = []
  private var number, name: (label: String, line: Int)?

  init(path: String) { self.path = path }

  mutating func note(_ label: String, line: Int) throws(UserError) {
    guard !label.isEmpty else { return }
    if let value = SampleLabel.whole(label) {
      guard value <= Double(Int32.max) else {
        throw UserError(path, "line \(line) has the label \(label); a label is at most \(Int32.max)")
      }
      if number == nil { number = (label, line) }
    } else {
      names.insert(label)
      if name == nil { name = (label, line) }
    }
    guard let number, let name else { return }
    throw UserError(
      path,
      """
      line \(number.line) has the label \(number.label), and line \(name.line) has "\(name.label.prefix(40))", which \
      is not a whole number; labels are whole numbers or names, not both: correct the odd ones, or leave them empty
      """)
  }
}

struct TableColumns: Sendable, Equatable {
  var image = "filepath"
  /// The columns of captions, in this order. If nil, it is `title`, which may be absent if there is a label.
  var captions: [String]?
  var label: String?
  var key: String?
  /// The columns of numbers that conditions on samples name.
  var values: [String] = []
}

/// Reads records by the positions of a table's columns.
struct TableLayout: Sendable {
  private let image, width: Int
  private let captions, values: [Int]
  private let label, key: Int?

  /// The contents of one record; if `key` is nil, the key is made from the path.
  struct Row: Equatable {
    var path: String
    var captions: [String]
    var label: String
    var key: String?
    /// The fields that conditions on samples name.
    var values: [String] = []
    /// The label without a negative number, which many tables write for a missing one.
    var given: String { SampleLabel.whole(label).map { $0 < 0 } == true ? "" : label }
  }

  init(_ columns: TableColumns, header: [String], path: String) throws(UserError) {
    func position(_ name: String, _ option: String) throws(UserError) -> Int {
      let found = header.indices.filter { header[$0] == name }
      guard let first = found.first else {
        let more = header.count > 20 ? ", …" : ""
        let known = header.prefix(20).map { "\"\($0.prefix(40))\"" }.joined(separator: ", ") + more
        throw UserError(path, "has no column \"\(name)\"; it has \(known); name the right one with \(option)")
      }
      guard found.count == 1 else { throw UserError(path, "has \(found.count) columns \"\(name)\"") }
      return first
    }
    image = try position(columns.image, "--image-column")
    let isOptional = columns.label != nil && !header.contains("title")
    let names = columns.captions ?? (isOptional ? [] : ["title"])
    captions = try names.map { name throws(UserError) in try position(name, "--caption-columns") }
    label = if let name = columns.label { try position(name, "--label-column") } else { nil }
    key = if let name = columns.key { try position(name, "--key-column") } else { nil }
    values = try columns.values.map { name throws(UserError) in try position(name, "--keep") }
    width = header.count
  }

  /// Reads a record, or throws why it cannot be used. Captions are trimmed, and empty ones are left out.
  func row(_ record: DelimitedReader.Record) throws(ImportReason) -> Row {
    guard record.fields.count == width else {
      throw ImportReason("has \(Figures.count(record.fields.count, "field")), the header has \(width)")
    }
    var wrong: String?
    func text(_ position: Int) -> String {
      let text = String(validating: record.fields[position], as: UTF8.self)
      if text == nil { wrong = "is not UTF-8" }
      if text?.utf8.contains(0) == true { wrong = "holds a zero byte" }
      return text?.trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
    }
    let row = Row(
      path: text(image), captions: captions.map(text).filter { !$0.isEmpty },
      label: label.map { SampleLabel.plain(text($0)) } ?? "",
      key: key.map { SampleKey.clean(text($0)) }, values: values.map(text))
    if let wrong { throw ImportReason(wrong) }
    if row.path.isEmpty { throw ImportReason("names no image") }
    if row.key == "" { throw ImportReason("has an empty key") }
    return row
  }
}
