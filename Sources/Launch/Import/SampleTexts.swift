import Dist
import Foundation
import Settings

/// What the files beside a picture say of it: `.txt` (a caption a line), `.json` and `.cls` (a label).
struct SampleTexts {
  /// A file's name, for messages, and its bytes.
  struct File {
    let name: String
    let bytes: [UInt8]
  }

  /// Larger ones are taken for something else.
  static let longest = DelimitedReader.longestField

  struct Reason: Error {
    let words: String
  }

  var text: File?
  var json: File?
  var label: File?

  /// The captions, and the label if there is one.
  ///
  /// Captions come from the JSON's `keys`, if any are named; else from the text; else from the JSON's `caption`. A
  /// sample of which img2dataset says that fetching it failed is refused.
  func read(keys: [String]) throws(Reason) -> (captions: [String], label: Int?) {
    let record = try keys.isEmpty && text != nil ? try? self.record() : self.record()
    if case .string(let status)? = record?.value("status"), status.hasPrefix("failed") {
      var words = "img2dataset says “\(status)”"
      if case .string(let message)? = record?.value("error_message") { words += ": \(message)" }
      throw Reason(words: words)
    }
    var captions: [String] = []
    if keys.isEmpty, let text {
      let whole = try Self.plain(text)
      // img2dataset writes one caption to both; it may have line ends.
      captions =
        record?.value("caption") == .string(whole) ? [whole] : whole.split(whereSeparator: \.isNewline).map(String.init)
    } else if let json, let record {
      for key in keys.isEmpty ? ["caption"] : keys { captions += try Self.captions(record, key, json.name) }
    } else if let name = keys.first {
      throw Reason(words: "has no .json whose “\(name)” could be its caption")
    }
    captions = captions.map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }.filter { !$0.isEmpty }
    return (captions, try label.map(Self.number))
  }

  private func record() throws(Reason) -> JSONRecord? {
    guard let json else { return nil }
    let value: StrictJSON
    do throws(StrictJSON.Problem) { value = try StrictJSON.parse(json.bytes) } catch {
      throw Reason(words: "its \(json.name) is not sound JSON: \(error)")
    }
    guard let record = JSONRecord(value) else {
      throw Reason(words: "its \(json.name): expected an object, found \(value.kind)")
    }
    return record
  }

  private static func captions(_ record: JSONRecord, _ key: String, _ name: String) throws(Reason) -> [String] {
    func text(_ value: StrictJSON) throws(Reason) -> String {
      guard case .string(let text) = value else {
        throw Reason(words: "its \(name), \"\(key)\": expected a string or an array of them, found \(value.kind)")
      }
      guard !text.utf8.contains(0) else { throw Reason(words: "its \(name), \"\(key)\": holds a zero byte") }
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

  private static func plain(_ file: File) throws(Reason) -> String {
    guard let text = String(validating: file.bytes, as: UTF8.self), !file.bytes.contains(0) else {
      throw Reason(words: "its captions, \(file.name), are not UTF-8 text")
    }
    return text
  }

  private static func number(_ file: File) throws(Reason) -> Int {
    let text = String(decoding: file.bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    guard let number = Int32(text), number >= 0 else {
      throw Reason(words: "its label, \(file.name): expected a whole number from 0, found “\(text.prefix(40))”")
    }
    return Int(number)
  }
}
