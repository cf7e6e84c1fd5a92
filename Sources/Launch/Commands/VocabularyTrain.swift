import ArgumentParser
import Dist
import Model

/// `kinship vocabulary train`: each rank counts the words of its captions, all ranks learn, and rank 0 writes the file.
struct VocabularyTrain: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train",
    abstract: "Learns a byte-pair vocabulary from the captions of datasets.",
    discussion: """
      Captions are cleaned and split as in CLIP. The most frequent pair of adjacent symbols becomes a new symbol, \
      again and again; among equally frequent pairs the one with the lower ids wins, so that the same captions give \
      the same file. The model's vocab_size is 512 + merges + 2; a run file with vocab_size 0 takes it from the \
      vocabulary.

      Example:

        kinship vocabulary train data/mine --merges 2000 --output words.txt.gz
      """)

  @Argument(help: ArgumentHelp("The datasets: index files or folders.", valueName: "dataset"))
  var datasets: [String]

  @Option(help: "Symbols to learn at most, 0 to 48894. Fewer are learned once no pair occurs twice.")
  var merges: Int

  @Option(name: .shortAndLong, help: "The file to write; compressed if its name ends in .gz.")
  var output: String

  func validate() throws {
    guard (0...Vocabulary.mergeLimit).contains(merges) else {
      throw ValidationError("--merges is \(merges); expected 0 to \(Vocabulary.mergeLimit)")
    }
  }

  func run() throws {
    let code = Job.run { communicator in
      let (counts, captions) = try count(over: communicator)
      let vocabulary = try VocabularyTrainer.train(on: counts, merges: merges)
      if communicator.rank == 0 {
        try vocabulary.write(to: output)
        print(
          """
          \(captions) captions, \(counts.total) words, \(counts.distinct) different
          \(vocabulary.mergeCount) merges, \(vocabulary.size) tokens: \(output)
          """)
      }
      return 0
    }
    if code != 0 { throw ExitCode(code) }
  }

  /// The words of all captions, and how many captions there are, on every rank.
  private func count(over communicator: Communicator) throws -> (words: WordCounts, captions: Int) {
    var own = WordCounts()
    var captions = 0
    for path in datasets {
      let dataset = try Dataset.open(path)
      for sample in communicator.slice(of: dataset.count) {
        for caption in dataset.captions(sample) {
          own.add(caption)
          captions += 1
        }
      }
    }
    var all = WordCounts()
    for part in try communicator.allGather(own.serialized) { all.add(WordCounts(serialized: part)) }
    return (all, try communicator.allReduce(captions))
  }
}
