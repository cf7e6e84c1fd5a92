internal import Foundation

extension Corpus {
  /// What `verify` says of one shard.
  public struct Verdict: Hashable, Sendable {
    public let file: String
    public let samples: Int
    public let bytes: Int
    /// What is wrong with the shard; nil for nothing.
    public let problem: String?
  }

  /// Reads every byte of every shard of the corpus at `path` and recomputes every SHA-256, the file's and the
  /// contents'. A shard that fails does not keep the others from being looked at; only a bad index throws.
  public static func verify(_ path: String, each: (Verdict) -> Void = { _ in }) throws -> [Verdict] {
    let (index, folder) = try locate(path)
    return index.shards.map { entry in
      let verdict = Verdict(
        file: entry.file, samples: entry.samples, bytes: entry.fileBytes,
        problem: problem(folder + "/" + entry.file, entry, index))
      each(verdict)
      return verdict
    }
  }

  /// Reads every byte of the corpora once, each shard by one rank. Every rank must call it, and all call `pause`
  /// equally often, after each of their shards: by that the others see that this rank gets on.
  ///
  /// - Throws: `CorpusError` of the first shard of this rank's that is altered, and what `pause` throws.
  public static func verify(_ corpora: [Corpus], over ranks: Communicator, pause: () throws -> Void) throws {
    let shards = corpora.flatMap { corpus in corpus.index.shards.map { (corpus.folder, $0) } }
    for first in stride(from: 0, to: shards.count, by: ranks.size) {
      if first + ranks.rank < shards.count {
        let (folder, entry) = shards[first + ranks.rank]
        try checkFile(folder + "/" + entry.file, entry, checksum: true)
      }
      try pause()
    }
  }

  private static func problem(_ path: String, _ entry: CorpusIndex.Shard, _ index: CorpusIndex) -> String? {
    do {
      try checkFile(path, entry, checksum: true)
      let shard = try Shard(path: path, entry: entry, corpus: index.name, labeled: index.labeled)
      let found = try shard.contentDigest()
      return found == shard.digest ? nil : "the SHA-256 of its contents is \(found), it claims \(shard.digest)"
    } catch let error as CorpusError {
      return error.reason
    } catch {
      return "\(error)"
    }
  }

  /// The index that `path` means, and its folder.
  static func locate(_ path: String) throws -> (index: CorpusIndex, folder: String) {
    var isFolder: ObjCBool = false
    guard unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw CorpusError(path, "does not exist; expected a corpus's folder or its \(CorpusIndex.fileName)")
    }
    let whole = (path as NSString).standardizingPath
    let folder = isFolder.boolValue ? whole : (whole as NSString).deletingLastPathComponent
    let file = isFolder.boolValue ? folder + "/" + CorpusIndex.fileName : whole
    guard FileManager.default.fileExists(atPath: file) else {
      throw CorpusError(path, "holds no \(CorpusIndex.fileName): not a corpus, or an import that did not end")
    }
    return (try CorpusIndex.read(file), folder.isEmpty ? "." : folder)
  }

  /// Checks a shard's file by what the index says of it: size, and the SHA-256 of all of it or of all but the
  /// pictures. Comes before the HDF5 library sees the file, which altered headers can crash.
  static func checkFile(_ path: String, _ entry: CorpusIndex.Shard, checksum: Bool) throws {
    guard FileManager.default.fileExists(atPath: path) else {
      throw CorpusError(path, "is missing; the index lists it")
    }
    let file = try OpenFile.reading(path)
    let size = try file.size()
    guard size == entry.fileBytes else {
      let word = size < entry.fileBytes ? "truncated" : "altered"
      throw CorpusError(path, "is \(word): it has \(size) bytes, the index says \(entry.fileBytes)")
    }
    let found = try checksum ? file.sha256() : file.sha256(without: entry.imageExtent)
    let expected = checksum ? entry.sha256 : entry.restSHA256
    guard found == expected else {
      throw CorpusError(path, "is altered: its SHA-256 is \(found), the index says \(expected)")
    }
  }
}
