import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

/// The reference ids of open_clip's tokenizer.
@Suite struct TextGoldenTests {
  struct Cases: Decodable {
    struct Case: Decodable {
      let text: String
      let cleaned: String
      let ids: [Int32]
      let untruncatedLength: Int
      let needsFtfy: Bool
    }
    let contextLength: Int
    let sot: Int32
    let eot: Int32
    let vocabSize: Int
    let cases: [Case]

    init(_ name: String) throws {
      let data = try Data(contentsOf: Fixture.golden.appending(path: "tokenizer/\(name)"))
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      self = try decoder.decode(Cases.self, from: data)
      _ = try Fixture.required(cases, "cases in tokenizer/\(name)")
    }

    func tokenizer() throws -> BytePairTokenizer {
      BytePairTokenizer(vocabulary: try Vocabulary(contentsOf: PublicVocabulary.path()), context: contextLength)
    }
  }

  @Test func matchesEveryCaseWithoutMojibake() throws {
    let golden = try Cases("no_ftfy.json")
    let tokenizer = try golden.tokenizer()
    #expect(tokenizer.vocabulary.size == golden.vocabSize)
    #expect(tokenizer.vocabulary.start == golden.sot)
    #expect(tokenizer.vocabulary.end == golden.eot)
    for one in golden.cases {
      #expect(tokenizer.encode(one.text) == one.ids, "\(one.text.debugDescription)")
      #expect(tokenizer.encodeWhole(one.text).count == one.untruncatedLength, "\(one.text.debugDescription)")
    }
  }

  @Test func missesOnlyMojibake() throws {
    let golden = try Cases("all.json")
    let tokenizer = try golden.tokenizer()
    let misses = golden.cases.filter { tokenizer.encode($0.text) != $0.ids }
    let repaired = golden.cases.count { $0.needsFtfy } - misses.count
    print("tokenizer: \(misses.count) of \(golden.cases.count) cases missed, \(repaired) repaired as ftfy does")
    for miss in misses {
      print("  missed \(miss.text.debugDescription): expected \(miss.cleaned.debugDescription)")
      #expect(miss.needsFtfy, "\(miss.text.debugDescription)")
    }
  }

  /// The padded table has the same ids as the list of all cases.
  @Test func paddedTableAgrees() throws {
    let golden = try Cases("all.json")
    let tokenizer = try golden.tokenizer()
    let file = try SafetensorsFile(Fixture.golden.appending(path: "tokenizer/ids.safetensors"))
    let ids = try file.integers("ids")
    try #require(try file.shape(of: "ids") == Shape(golden.cases.count, golden.contextLength))
    for (row, one) in golden.cases.enumerated() where !one.needsFtfy {
      let found = tokenizer.encode(one.text).map(Int.init)
      let padding = [Int](repeating: 0, count: golden.contextLength - found.count)
      let start = row * golden.contextLength
      #expect(found + padding == Array(ids[start..<start + golden.contextLength]), "\(one.text.debugDescription)")
    }
  }
}
