import Dist
import Foundation

/// A CSV or TSV table with one picture a line.
///
/// The table is read twice and never held: first for the keys, the labels and the count, then for the pictures.
struct TableSource: ImportSource {
  let path: String
  let separator: UInt8
  let labeled: Bool
  private(set) var count = 0
  private(set) var labels: [String] = []
  private let quoted: Bool
  private let layout: TableLayout

  /// Reads the table once and checks it: the columns are there, no key comes twice.
  ///
  /// - Parameter separator: nil: by the file's name (a comma for `.csv`, else a tab), but another one if only with that
  ///   the header names the column of the pictures.
  init(_ path: String, corpus: String, columns: TableColumns, separator: UInt8? = nil, quoted: Bool = true) throws {
    self.path = path
    self.quoted = quoted
    labeled = columns.label != nil
    let comma = UInt8(ascii: ",")
    let tab = UInt8(ascii: "\t")
    let usual = path.lowercased().hasSuffix(".csv") ? [comma, tab] : [tab, comma]
    let candidates = separator.map { [$0] } ?? usual + [UInt8(ascii: ";")]
    let headers = try candidates.map { try Self.header(path, $0, quoted) }
    let choice = headers.firstIndex { $0.contains(columns.image) } ?? 0
    self.separator = candidates[choice]
    layout = try TableLayout(columns, header: headers[choice], path: path)
    try survey(corpus, keyed: columns.key != nil)
  }

  private static func header(_ path: String, _ separator: UInt8, _ quoted: Bool) throws -> [String] {
    var reader = try DelimitedReader(path, separator: separator, quoted: quoted)
    guard let record = try reader.next() else { throw ImportError(path, "the table is empty") }
    return record.fields.map { String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .whitespaces) }
  }

  /// Counts the records, refuses repeated keys and collects the classes.
  private mutating func survey(_ corpus: String, keyed: Bool) throws {
    var ledger = KeyLedger(corpus: corpus)
    var names: Set<String> = []
    var reader = try records()
    while let record = try reader.next() {
      count += 1
      guard case .success(let row) = layout.row(record) else { continue }
      let key = key(row)
      if let earlier = ledger.note(key, at: record.line) {
        let advice = keyed ? "keys must be unique" : "name a column of unique keys with --key-column"
        throw ImportError(path, "lines \(earlier) and \(record.line) have the same key \"\(key)\"; \(advice)")
      }
      if !row.label.isEmpty { names.insert(row.label) }
    }
    guard count > 0 else { throw ImportError(path, "has a header and nothing below it") }
    // Numbers are labels as they stand; anything else names a class.
    if names.contains(where: { Int32($0) == nil }) {
      labels = names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }
  }

  /// The records behind the header.
  private func records() throws -> DelimitedReader {
    var reader = try DelimitedReader(path, separator: separator, quoted: quoted)
    _ = try reader.next()
    return reader
  }

  /// The key column's word, or the picture's path seen from the table's folder.
  private func key(_ row: TableLayout.Row) -> String {
    if let key = row.key { return key }
    let folder = Publish.folder(of: path) + "/"
    return SampleKey.from(path: row.path.hasPrefix(folder) ? String(row.path.dropFirst(folder.count)) : row.path)
  }

  func entries() throws -> any ImportReader {
    Reader(
      source: self, records: try records(),
      numbers: Dictionary(uniqueKeysWithValues: labels.enumerated().map { ($1, $0) }))
  }

  private struct Reader: ImportReader {
    let source: TableSource
    var records: DelimitedReader
    /// The label of each class's name.
    let numbers: [String: Int]

    mutating func next() throws -> ImportEntry? {
      guard let record = try records.next() else { return nil }
      let place = "line \(record.line)"
      switch source.layout.row(record) {
      case .failure(let reason):
        return .rejected(Rejection(place: place, key: "", reason: reason.words))
      case .success(let row):
        // A negative number is how many tables write that there is no label.
        let label = numbers[row.label] ?? Int(row.label).flatMap { $0 < 0 ? nil : $0 }
        let path = row.path.hasPrefix("/") ? row.path : Publish.folder(of: source.path) + "/" + row.path
        let item = ImportItem(
          place: place, path: path, key: source.key(row), captions: row.captions, label: label)
        guard !item.captions.isEmpty || item.label != nil else {
          return .rejected(Rejection(place: place, key: item.key, reason: "has neither a caption nor a label"))
        }
        return .item(item)
      }
    }
  }
}
