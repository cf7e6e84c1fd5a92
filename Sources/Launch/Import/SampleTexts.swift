import Dist
import Foundation

/// The files beside an image that describe it: `.txt` (a caption a line), `.json` and `.cls` (a label).
struct SampleTexts {
  /// A file's name, for messages, and its bytes.
  struct File {
    let name: String
    let bytes: [UInt8]
  }

  /// The largest file in bytes; a larger one is not taken for captions.
  static let longest = DelimitedReader.longestField

  var text: File?
  var json: File?
  var label: File?

  /// Returns the captions, and the label if there is one.
  ///
  /// Captions come from the JSON's `keys`, if any are named; else from the text; else from the JSON's `caption`. A
  /// sample that img2dataset marks as failed is refused.
  func read(keys: [String]) throws(ImportReason) -> (captions: [String], label: Int?) {
    let record = try keys.isEmpty && text != nil ? try? self.record() : self.record()
    if case .string(let status)? = record?.value("status"), status.hasPrefix("failed") {
      var words = "img2dataset says “\(status)”"
      if case .string(let message)? = record?.value("error_message") { words += ": \(message)" }
      throw ImportReason(words)
    }
    var captions: [String] = []
    if keys.isEmpty, let text {
      let whole = try Self.plain(text)
      // img2dataset writes one caption to both files, and it may contain line ends.
      captions =
        record?.value("caption") == .string(whole) ? [whole] : whole.split(whereSeparator: \.isNewline).map(String.init)
    } else if let json, let record {
      for key in keys.isEmpty ? ["caption"] : keys { captions += try Self.captions(record, key, json.name) }
    } else if let name = keys.first {
      throw ImportReason("has no .json whose “\(name)” could be its caption")
    }
    captions = captions.map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }.filter { !$0.isEmpty }
    return (captions, try label.map(Self.number))
  }

  private func record() throws(ImportReason) -> JSONRecord? {
    guard let json else { return nil }
    let value: StrictJSON
    do throws(StrictJSON.Problem) { value = try StrictJSON.parse(json.bytes) } catch {
      throw ImportReason("its \(json.name) is not valid JSON: \(error)")
    }
    guard let record = JSONRecord(value) else {
      throw ImportReason("its \(json.name): expected an object, found \(value.kind)")
    }
    return record
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
    case .array(let values):
      var captions: [String] = []
      for value in values { captions.append(try text(value)) }
      return captions
    case let value?: return [try text(value)]
    }
  }

  private static func plain(_ file: File) throws(ImportReason) -> String {
    guard let text = String(validating: file.bytes, as: UTF8.self), !file.bytes.contains(0) else {
      throw ImportReason("its captions, \(file.name), are not UTF-8 text")
    }
    return text
  }

  private static func number(_ file: File) throws(ImportReason) -> Int {
    let text = String(decoding: file.bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    guard let number = Int32(text), number >= 0 else {
      throw ImportReason("its label, \(file.name): expected a whole number of 0 or more, found “\(text.prefix(40))”")
    }
    return Int(number)
  }
}
