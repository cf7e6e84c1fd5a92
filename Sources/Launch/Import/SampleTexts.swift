import Dist
import Foundation

/// The files beside an image that describe it: `.txt` (a caption a line), `.json` and `.cls` (a label).
struct SampleTexts {
  /// A file's name, for messages, and its bytes.
  typealias File = (name: String, bytes: [UInt8])

  /// The largest file in bytes; a larger one is not taken for captions.
  static let longest = DelimitedReader.longestField
  var text: File?
  var json: SampleJSON?
  var label: File?

  /// Returns the captions, and the label if there is one. Captions come from the JSON's `keys`, if any are named; else
  /// from the text; else from the JSON's `caption`. A sample that img2dataset marks as failed is refused.
  func read(keys: [String]) throws(ImportReason) -> (captions: [String], label: Int?) {
    let record = try keys.isEmpty && text != nil ? try? json?.record.get() : json?.record.get()
    if case .string(let status)? = record?.value("status"), status.hasPrefix("failed") {
      var words = "img2dataset says “\(status)”"
      if case .string(let message)? = record?.value("error_message") { words += ": \(message)" }
      throw ImportReason(words)
    }
    var captions: [String] = []
    if keys.isEmpty, let text {
      let whole = try Self.decoded(text, "captions")
      // img2dataset writes one caption to both files, and it may contain line ends.
      captions =
        record?.value("caption") == .string(whole) ? [whole] : whole.split(whereSeparator: \.endsLine).map(String.init)
    } else if let json, let record {
      for key in keys.isEmpty ? ["caption"] : keys { captions += try Self.captions(record, key, json.name) }
    } else if let name = keys.first {
      throw ImportReason("has no .json whose “\(name)” could be its caption")
    }
    captions = captions.map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }.filter { !$0.isEmpty }
    return (captions, try label.map(Self.number))
  }

  /// Returns the values of the JSON's keys that conditions on samples name.
  func values(of columns: [String]) -> [ColumnValue] {
    guard !columns.isEmpty else { return [] }
    guard let record = try? json?.record.get() else { return columns.map { _ in .absent("no .json that can be read") } }
    return columns.map { ColumnValue(record.value($0), keys: record.keys) }
  }

  private static func decoded(_ file: File, _ what: String) throws(ImportReason) -> String {
    do throws(FileError) { return try TextFile.text(of: file.bytes, from: file.name) } catch {
      throw ImportReason("its \(what), \(file.name): \(error.reason)")
    }
  }

  private static func captions(_ record: JSONRecord, _ key: String, _ name: String) throws(ImportReason) -> [String] {
    func text(_ value: StrictJSON) throws(ImportReason) -> String {
      guard case .string(let text) = value else {
        throw ImportReason("its \(name), \"\(key)\": expected a string or an array of them, found \(value.kind)")
      }
      guard !text.utf8.contains(0) else { throw ImportReason("its \(name), \"\(key)\": holds a zero byte") }
      return text
    }
    switch record.value(key) {
    case nil, .null: return []
    case .array(let values): return try values.map(text)
    case let value?: return [try text(value)]
    }
  }

  private static func number(_ file: File) throws(ImportReason) -> Int {
    let text = try decoded(file, "label").trimmingCharacters(in: .whitespacesAndNewlines)
    if let number = Int32(SampleLabel.plain(text)), number >= 0 { return Int(number) }
    throw ImportReason("its label, \(file.name): expected a whole number of 0 or more, found “\(text.prefix(40))”")
  }
}

/// The JSON file beside an image, which is parsed once for its captions and for the values of conditions.
struct SampleJSON {
  /// The file's name, for messages.
  let name: String
  /// The object that the file holds.
  let record: Result<JSONRecord, ImportReason>

  init(_ file: SampleTexts.File) {
    name = file.name
    do throws(ImportReason) { record = .success(try Self.parse(file)) } catch { record = .failure(error) }
  }

  private static func parse(_ file: SampleTexts.File) throws(ImportReason) -> JSONRecord {
    let value: StrictJSON
    do throws(StrictJSON.Problem) { value = try StrictJSON.parse(file.bytes) } catch {
      throw ImportReason("its \(file.name) is not valid JSON: \(error)")
    }
    if let record = JSONRecord(value) { return record }
    throw ImportReason("its \(file.name): expected an object, found \(value.kind)")
  }
}
