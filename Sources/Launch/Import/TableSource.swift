import Dist
import Foundation

/// A CSV or TSV table with one image a line. The table is read twice and never held in memory: first for the keys, the
/// labels and the count, then for the images.
struct TableSource: ImportSource {
  let path: String
  let separator: UInt8
  let labeled: Bool
  private(set) var count = 0
  private(set) var labels: [String] = []
  private let quoted: Bool
  private let layout: TableLayout

  /// Reads the table once and checks that the columns exist and no key comes twice. Without a separator the file's name
  /// decides (a comma for `.csv`, else a tab), unless only another one makes the header name the column of the images.
  init(_ path: String, dataset: String, columns: TableColumns, separator: UInt8? = nil, quoted: Bool = true) throws {
    (self.path, self.quoted, labeled) = (path, quoted, columns.label != nil)
    let usual = path.lowercased().hasSuffix(".csv") ? ",\t;" : "\t,;"
    let candidates = separator.map { [$0] } ?? Array(usual.utf8)
    let headers = try candidates.map { separator in
      var reader = try DelimitedReader(path, separator: separator, quoted: quoted)
      guard let record = try reader.next() else { throw UserError(path, "the table is empty") }
      return record.fields.map { String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .whitespaces) }
    }
    let choice = headers.firstIndex { $0.contains(columns.image) } ?? 0
    self.separator = candidates[choice]
    layout = try TableLayout(columns, header: headers[choice], path: path)
    try survey(dataset, keyed: columns.key != nil)
  }

  private mutating func survey(_ dataset: String, keyed: Bool) throws {
    var ledger = KeyLedger(dataset: dataset)
    var names: Set<String> = []
    var reader = try records()
    while let record = try reader.next() {
      count += 1
      guard let row = try? layout.row(record) else { continue }
      let key = key(row)
      if let earlier = ledger.note(key, at: record.line) {
        let advice = keyed ? "keys must be unique" : "name a column of unique keys with --key-column"
        throw UserError(path, "lines \(earlier) and \(record.line) have the same key \"\(key)\"; \(advice)")
      }
      if !row.label.isEmpty { names.insert(row.label) }
    }
    guard count > 0 else { throw UserError(path, "has a header and nothing below it") }
    // Numbers are labels as they stand; anything else names a class.
    if names.contains(where: { Int32($0) == nil }) { labels = names.sortedByBytes() }
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
    return { try records.next().map { entry($0, numbers) } }
  }

  /// - Parameter numbers: the label of each class's name.
  private func entry(_ record: DelimitedReader.Record, _ numbers: [String: Int]) -> ImportEntry {
    let place = "line \(record.line)"
    do throws(ImportReason) {
      let row = try layout.row(record)
      // Many tables write a negative number for a missing label.
      let label = numbers[row.label] ?? Int(row.label).flatMap { $0 < 0 ? nil : $0 }
      let path = row.path.hasPrefix("/") ? row.path : Publish.folder(of: path) + "/" + row.path
      return ImportEntry(ImportItem(place: place, path: path, key: key(row), captions: row.captions, label: label))
    } catch { return .leftOut(place, key: "", error.words) }
  }
}

struct TableColumns: Sendable, Equatable {
  var image = "filepath"
  /// The columns of captions, in this order. If nil, it is `title`, which may be absent if there is a label.
  var captions: [String]?
  var label: String?
  var key: String?
}

/// Reads records by the positions of a table's columns.
struct TableLayout: Sendable {
  private let image, width: Int
  private let captions: [Int]
  private let label, key: Int?

  /// The contents of one record; if `key` is nil, the key is made from the path.
  struct Row: Equatable {
    var path: String
    var captions: [String]
    var label: String
    var key: String?
  }

  init(_ columns: TableColumns, header: [String], path: String) throws(UserError) {
    func position(_ name: String, _ option: String) throws(UserError) -> Int {
      let found = header.indices.filter { header[$0] == name }
      guard let first = found.first else {
        let known = header.map { "\"\($0)\"" }.joined(separator: ", ")
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
    width = header.count
  }

  /// Reads a record, or throws why it cannot be used. Captions are trimmed, and empty ones are left out.
  func row(_ record: DelimitedReader.Record) throws(ImportReason) -> Row {
    guard record.fields.count == width else {
      throw ImportReason("has \(record.fields.count) fields, the header has \(width)")
    }
    var wrong: String?
    func text(_ position: Int) -> String {
      let text = String(validating: record.fields[position], as: UTF8.self)
      if text == nil { wrong = "is not UTF-8" }
      if text?.utf8.contains(0) == true { wrong = "holds a zero byte" }
      return text?.trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
    }
    let row = Row(
      path: text(image), captions: captions.map(text).filter { !$0.isEmpty }, label: label.map(text) ?? "",
      key: key.map { SampleKey.clean(text($0)) })
    if let wrong { throw ImportReason(wrong) }
    if row.path.isEmpty { throw ImportReason("names no image") }
    if row.key == "" { throw ImportReason("has an empty key") }
    return row
  }
}
