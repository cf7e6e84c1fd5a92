import ArgumentParser
import Dist

/// `kinship corpus verify`: whether every shard is whole.
struct CorpusVerify: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Reads every byte of a corpus and says of each shard whether it is whole; exit code 65 if one is not.")

  @Argument(help: "The corpus's folder, or its index.") var corpus: String

  func run() throws {
    guard Machine.isFirstRank else { return }
    let verdicts = try Corpus.verify(corpus) { verdict in
      let state = verdict.problem.map { "BAD, \($0)" } ?? "ok"
      print("\(verdict.file): \(verdict.samples) samples, \(Figures.bytes(verdict.bytes)): \(state)")
    }
    let bad = verdicts.filter { $0.problem != nil }.map(\.file)
    guard bad.isEmpty else {
      throw CorpusError(
        corpus, "\(bad.count) of \(verdicts.count) shards are bad: \(bad.joined(separator: ", ")); import it again")
    }
  }
}
