import Dist
import Foundation

/// A table of numbers by the keys of samples, as `kinship dataset score` writes it and other programs may: CSV or TSV
/// with a header, the column `key`, and any other columns, of which only those that are needed are held in memory.
struct ScoreTable: Sendable {
  static let keyColumn = "key"
  let path: String
  /// The names of the columns that are held.
  let columns: [String]
  /// The row of each key, by the identity of the key: 16 bytes, however long it is.
  private var rows: [UInt64: Int] = [:]
  /// The numbers of each column, NaN for anything else.
  private var values: [String: [Double]]

  /// Reads the table at `path`. Of its columns those are held that are among `wanted`, at least one.
  init(_ path: String, columns wanted: [String]) throws {
    let (separator, header) = try TableSource.header(path, naming: Self.keyColumn, separator: nil, quoted: true)
    func names(_ list: [String]) -> String { list.prefix(20).map { "\"\($0.prefix(40))\"" }.joined(separator: ", ") }
    for name in [Self.keyColumn] + wanted where header.count(where: { $0 == name }) > 1 {
      throw UserError(path, "has the column \"\(name)\" more than once")
    }
    guard let keys = header.firstIndex(of: Self.keyColumn) else {
      throw UserError(
        path, "has no column \"\(Self.keyColumn)\" with the keys of samples; it has \(names(header)); rename one")
    }
    let held = header.indices.filter { $0 != keys && wanted.contains(header[$0]) }
    guard !held.isEmpty else {
      throw UserError(path, "has none of the columns that --keep names, \(names(wanted)); it has \(names(header))")
    }
    self.path = path
    columns = held.map { header[$0] }
    values = Dictionary(uniqueKeysWithValues: columns.map { ($0, []) })

    var reader = try DelimitedReader(path, separator: separator, quoted: true)
    _ = try reader.next()
    while let record = try reader.next() {
      let place = "\(path):\(record.line)"
      guard record.fields.count == header.count else {
        throw UserError(
          place, "has \(Figures.count(record.fields.count, "field")), expected \(header.count) as in the header")
      }
      guard let text = String(validating: record.fields[keys], as: UTF8.self) else {
        throw UserError(place, "its key is not UTF-8")
      }
      let key = SampleKey.clean(text.trimmingCharacters(in: .whitespacesAndNewlines))
      guard !key.isEmpty else { throw UserError(place, "its key is empty") }
      guard rows.updateValue(rows.count, forKey: Self.identity(key)) == nil else {
        throw UserError(place, "has the key \"\(key)\" of an earlier line; each sample has one line")
      }
      for (name, index) in zip(columns, held) {
        let field = String(decoding: record.fields[index], as: UTF8.self).trimmingCharacters(in: .whitespaces)
        values[name]?.append(ColumnValue.number(field) ?? .nan)
      }
    }
    guard !rows.isEmpty else { throw UserError(path, "has a header and nothing below it") }
  }

  private static func identity(_ key: String) -> UInt64 { Dataset.sampleID(dataset: "", key: key) }

  /// Returns the sample's value in a column, or nil if the table does not have this column.
  func value(of column: String, forKey key: String) -> ColumnValue? {
    guard let numbers = values[column] else { return nil }
    guard let row = rows[Self.identity(key)] else { return .absent("the key \"\(key)\", which \(path) lacks") }
    return numbers[row].isNaN ? .other : .number(numbers[row])
  }
}

extension ScoreTable {
  /// Returns the fields as a line of a tab-separated table, quoted by RFC 4180 where they need it.
  static func line(_ fields: [String]) -> [UInt8] {
    let quoted = fields.map { field in
      guard field.utf8.contains(where: { "\t\r\n\"".utf8.contains($0) }) else { return field }
      return "\"\(field.replacing("\"", with: "\"\""))\""
    }
    return Array((quoted.joined(separator: "\t") + "\n").utf8)
  }
}
