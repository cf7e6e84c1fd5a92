import Foundation

/// What the columns of a table mean.
struct TableColumns: Sendable, Equatable {
  var image = "filepath"
  /// Captions in this order; nil: `title`, which need not be there if there is a label.
  var captions: [String]?
  var label: String?
  var key: String?
}

/// Where the columns stand in a record, and what a record says.
struct TableLayout: Sendable {
  private let image: Int
  private let captions: [Int]
  private let label: Int?
  private let key: Int?
  private let width: Int

  /// What one record says; `key` is nil where it is to be made of the path.
  struct Row: Equatable {
    var path: String
    var captions: [String]
    var label: String
    var key: String?
  }

  /// Finds the columns in a header.
  init(_ columns: TableColumns, header: [String], path: String) throws(ImportError) {
    func position(_ name: String, _ option: String) throws(ImportError) -> Int {
      let found = header.indices.filter { header[$0] == name }
      guard let first = found.first else {
        let known = header.map { "\"\($0)\"" }.joined(separator: ", ")
        throw ImportError(path, "has no column \"\(name)\"; it has \(known); name the right one with \(option)")
      }
      guard found.count == 1 else { throw ImportError(path, "has \(found.count) columns \"\(name)\"") }
      return first
    }
    image = try position(columns.image, "--image-column")
    let optional = columns.label != nil && !header.contains("title")
    var captions: [Int] = []
    for name in columns.captions ?? (optional ? [] : ["title"]) {
      captions.append(try position(name, "--caption-columns"))
    }
    self.captions = captions
    label = if let name = columns.label { try position(name, "--label-column") } else { nil }
    key = if let name = columns.key { try position(name, "--key-column") } else { nil }
    width = header.count
  }

  /// Reads a record, or says why it cannot be used. Captions are trimmed, and empty ones left out.
  func row(_ record: DelimitedReader.Record) -> Result<Row, Reason> {
    guard record.fields.count == width else {
      return .failure(Reason("has \(record.fields.count) fields, the header has \(width)"))
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
    if let wrong { return .failure(Reason(wrong)) }
    if row.path.isEmpty { return .failure(Reason("names no picture")) }
    if row.key == "" { return .failure(Reason("has an empty key")) }
    return .success(row)
  }

  struct Reason: Error, Equatable {
    let words: String
    init(_ words: String) { self.words = words }
  }
}
