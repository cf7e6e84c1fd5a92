import Foundation

@testable import Model

/// A slow tokenizer that obeys a `tokenizer.json` rule by rule, as Hugging Face's `tokenizers` does.
struct HuggingFaceTokenizer {
  let object: [String: Any]
  let vocabulary: [String: Int32]
  let merges: [String]
  private let normalizers: [(String) -> String]
  private let special: [(text: String, id: Int32)]
  private let words: NSRegularExpression
  private let ranks: [String: Int]

  struct Unreadable: Error {}

  init(_ json: String) throws {
    guard let object = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any],
      let model = object["model"] as? [String: Any], let vocabulary = model["vocab"] as? [String: Any],
      let merges = model["merges"] as? [String], let added = object["added_tokens"] as? [[String: Any]],
      let normalizer = object["normalizer"] as? [String: Any],
      let rules = normalizer["normalizers"] as? [[String: Any]],
      let splitter = object["pre_tokenizer"] as? [String: Any],
      let parts = splitter["pretokenizers"] as? [[String: Any]],
      let pattern = (parts[0]["pattern"] as? [String: Any])?["Regex"] as? String
    else { throw Unreadable() }
    self.object = object
    self.vocabulary = vocabulary.compactMapValues { ($0 as? Int).map { Int32($0) } }
    self.merges = merges
    special = try added.map { token in
      guard let text = token["content"] as? String, let id = token["id"] as? Int else { throw Unreadable() }
      return (text, Int32(id))
    }
    normalizers = try rules.map(Self.normalizer)
    words = try NSRegularExpression(pattern: pattern)
    ranks = Dictionary(zip(merges, merges.indices)) { first, _ in first }
  }

  private static func normalizer(_ rule: [String: Any]) throws -> (String) -> String {
    switch rule["type"] as? String {
    case "NFC": return { $0.precomposedStringWithCanonicalMapping }
    case "Lowercase":
      return { text in text.unicodeScalars.map(\.properties.lowercaseMapping).joined() }
    case "Replace":
      guard let pattern = (rule["pattern"] as? [String: Any])?["Regex"] as? String,
        let content = rule["content"] as? String
      else { throw Unreadable() }
      let regex = try NSRegularExpression(pattern: pattern)
      let template = NSRegularExpression.escapedTemplate(for: content)
      return { text in
        let all = NSRange(location: 0, length: text.utf16.count)
        return regex.stringByReplacingMatches(in: text, range: all, withTemplate: template)
      }
    default: throw Unreadable()
    }
  }

  /// Returns the ids of a caption without start, end and truncation.
  func ids(_ caption: String) -> [Int32] {
    var ids: [Int32] = []
    var text = Substring(normalizers.reduce(caption) { $1($0) })
    while !text.isEmpty {
      let found = special.compactMap { token in text.range(of: token.text).map { (range: $0, id: token.id) } }
        .min { $0.range.lowerBound < $1.range.lowerBound }
      ids += wordIDs(String(text[..<(found?.range.lowerBound ?? text.endIndex)]))
      guard let found else { break }
      ids.append(found.id)
      text = text[found.range.upperBound...]
    }
    return ids
  }

  private func wordIDs(_ text: String) -> [Int32] {
    let whole = text as NSString
    let all = NSRange(location: 0, length: whole.length)
    return words.matches(in: text, range: all).flatMap { match -> [Int32] in
      var symbols = whole.substring(with: match.range).utf8.map { byte in
        String(Character(ByteAlphabet.characters[Int(ByteAlphabet.ids[Int(byte)])]))
      }
      symbols[symbols.count - 1] += "</w>"
      while true {
        let pairs = zip(symbols, symbols.dropFirst()).map { "\($0) \($1)" }
        guard let rank = pairs.compactMap({ ranks[$0] }).min() else { break }
        var next: [String] = []
        for symbol in symbols {
          if let last = next.last, "\(last) \(symbol)" == merges[rank] {
            next[next.count - 1] = last + symbol
          } else {
            next.append(symbol)
          }
        }
        symbols = next
      }
      return symbols.map { vocabulary[$0] ?? -1 }
    }
  }
}
