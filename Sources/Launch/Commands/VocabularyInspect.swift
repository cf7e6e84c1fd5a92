import ArgumentParser
import Foundation
import Model

/// `kinship vocabulary inspect` shows a vocabulary file, and how it splits a text into tokens.
struct VocabularyInspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Shows a vocabulary file's size, and the tokens of a text.",
    discussion: """
      Example:

        kinship vocabulary inspect words.txt.gz "a red fox"
      """)

  @Argument(help: "The vocabulary file, plain or gzip-compressed.")
  var file: String

  @Argument(help: "A caption to tokenize; the output has one token per line, with its id.")
  var text: String?

  func run() throws {
    guard Machine.isFirstRank else { return }
    let vocabulary = try Vocabulary(contentsOf: file)
    let tokenizer = BytePairTokenizer(vocabulary: vocabulary)
    print("\(file): \(vocabulary.size) tokens")
    print("  512 bytes, \(vocabulary.mergeCount) merges, start \(vocabulary.start), end \(vocabulary.end)")
    guard let text else { return }
    let ids = tokenizer.encodeWhole(text)
    for id in ids { print(String(format: "%8d  ", id) + tokenizer.decode([id])) }
    print("\(ids.count) tokens")
  }
}
