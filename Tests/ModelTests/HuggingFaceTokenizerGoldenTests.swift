import Foundation
import TestSupport
import Testing

@testable import Model

/// `tokenizer.json`, obeyed rule by rule, gives the reference ids of open_clip's tokenizer.
@Suite struct HuggingFaceTokenizerGoldenTests {
  private struct Cases: Decodable {
    struct Case: Decodable {
      let text: String
      let ids: [Int32]
    }
    let contextLength: Int
    let cases: [Case]
  }

  @Test func hasTheIdsThatKinshipHas() throws {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let golden = try decoder.decode(
      Cases.self, from: Data(contentsOf: Fixture.golden.appending(path: "tokenizer/all.json")))
    let vocabulary = try Vocabulary(contentsOf: PublicVocabulary.path())
    let ours = BytePairTokenizer(vocabulary: vocabulary, context: golden.contextLength)
    let theirs = try HuggingFaceTokenizer(vocabulary.tokenizerJSON(context: golden.contextLength))
    #expect(theirs.merges.count == vocabulary.mergeCount && theirs.vocabulary.count == vocabulary.size)
    var compared = 0
    for one in golden.cases where ours.encode(one.text) == one.ids {
      let found = Array(theirs.ids(one.text).prefix(golden.contextLength - 2))
      #expect([vocabulary.start] + found + [vocabulary.end] == one.ids, "\(one.text.debugDescription)")
      compared += 1
    }
    #expect(compared > 0)
  }
}
