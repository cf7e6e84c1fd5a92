import ArgumentParser
import Dist
import Foundation
import Model

struct VocabularyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vocabulary", abstract: "Learns and shows byte-pair vocabularies in CLIP's file format.",
    discussion: help(
      "scripts/fetch-vocabulary fetches CLIP's own.",
      example: "kinship vocabulary train data/mine --merges 2000 --output words.txt.gz"),
    subcommands: [VocabularyTrain.self, VocabularyInspect.self])
}

struct VocabularyInspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect", abstract: "Shows what a vocabulary file is, its size, and the tokens of a text.",
    discussion: help(example: "kinship vocabulary inspect words.txt.gz \"a red fox\""))

  @Argument(help: "The vocabulary file, plain or gzip-compressed.") var file: String
  @Argument(help: "A caption to tokenize; the output has one token per line, with its id.") var text: String?

  func run() throws {
    guard Machine.isFirstRank else { return }
    let vocabulary = try Vocabulary(contentsOf: file)
    let tokenizer = BytePairTokenizer(vocabulary: vocabulary)
    try StandardOutput.print("\(file): \(vocabulary.size) tokens, \(vocabulary.title)")
    let merges = Figures.count(vocabulary.mergeCount, "merge")
    try StandardOutput.print("  512 bytes, \(merges), start \(vocabulary.start), end \(vocabulary.end)")
    guard let text else { return }
    let ids = tokenizer.encodeWhole(text)
    for id in ids { try StandardOutput.print(String(format: "%8d  ", id) + tokenizer.decode([id])) }
    try StandardOutput.print(Figures.count(ids.count, "token"))
  }
}

extension Vocabulary {
  /// The vocabulary's kind in words.
  fileprivate var title: String {
    switch origin {
    case .clip: "CLIP's own vocabulary"
    case .learned: mergeCount == 0 ? "bytes alone, without merges" : "learned by kinship vocabulary train"
    case .unknown: "merges of unknown origin in CLIP's format"
    }
  }
}

struct VocabularyTrain: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train", abstract: "Learns a byte-pair vocabulary from the captions of datasets.",
    discussion: help(
      """
      Captions are cleaned and split as in CLIP. The most frequent pair of adjacent symbols becomes a new symbol, \
      again and again; among equally frequent pairs the one with the lower ids wins, so that the same captions give \
      the same file. The model's vocab_size is 512 + merges + 2; a run file with vocab_size 0 takes it from the \
      vocabulary.
      """, example: "kinship vocabulary train data/mine --merges 2000 --output words.txt.gz"))

  @Argument(help: ArgumentHelp("The datasets: index files or folders.", valueName: "dataset")) var datasets: [String]
  @Option(help: "Symbols to learn at most, 0 to 48894. Fewer are learned once no pair occurs twice.") var merges: Int
  @Option(name: .shortAndLong, help: "The file to write; compressed if its name ends in .gz.") var output: String

  func validate() throws {
    try require(
      (0...Vocabulary.mergeLimit).contains(merges), "--merges is \(merges); expected 0 to \(Vocabulary.mergeLimit)")
  }

  func run() throws {
    try Job.perform { communicator in
      let (counts, captions) = try count(over: communicator)
      let vocabulary = try VocabularyTrainer.train(on: counts, merges: merges) { Dist.Progress.made() }
      if communicator.rank == 0 {
        try vocabulary.write(to: output)
        try StandardOutput.print(
          """
          \(Figures.count(captions, "caption")), \(Figures.count(counts.total, "word")), \(counts.distinct) different
          \(Figures.count(vocabulary.mergeCount, "merge")), \(vocabulary.size) tokens: \(output)
          """)
      }
    }
  }

  /// The words of all captions, and how many captions there are, on every rank.
  private func count(over communicator: Communicator) throws -> (words: WordCounts, captions: Int) {
    var own = WordCounts()
    var captions = 0
    for path in datasets {
      let dataset = try Dataset.open(path, over: communicator)
      for sample in communicator.slice(of: dataset.count) {
        let texts = dataset.captions(sample)
        for caption in texts { own.add(caption) }
        captions += texts.count
      }
    }
    var all = WordCounts()
    for part in try communicator.allGather(own.serialized) { all.add(WordCounts(serialized: part)) }
    return (all, try communicator.allReduce(captions))
  }
}
