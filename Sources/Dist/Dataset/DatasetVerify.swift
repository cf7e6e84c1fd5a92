internal import Foundation

extension Dataset {
  /// The result of verifying one shard.
  public struct Verdict: Hashable, Sendable {
    public let file: String
    public let samples: Int
    public let bytes: Int
    /// The problem with the shard, or nil if it is sound.
    public let problem: String?
  }

  /// Reads every byte of the dataset at `path`, and verifies files and contents. Only a bad index throws.
  public static func verify(_ path: String, each: (Verdict) throws -> Void = { _ in }) throws -> [Verdict] {
    let (index, folder, _) = try locate(path)
    return try index.shards.map { entry in
      let problem = problem("\(folder)/\(entry.file)", entry, index)
      let verdict = Verdict(file: entry.file, samples: entry.samples, bytes: entry.fileBytes, problem: problem)
      try each(verdict)
      return verdict
    }
  }

  /// Verifies each shard's checksum on one of the ranks that share its file. All ranks call `pause` equally often.
  /// Throws for an altered shard.
  public static func verify(_ datasets: [Dataset], over ranks: Communicator, pause: () throws -> Void) throws {
    var own: [(folder: String, entry: DatasetIndex.Shard)] = []
    for (number, dataset) in datasets.enumerated() {
      let shards = dataset.index.shards
      guard let first = shards.first else { continue }
      let viewers = try ranks.sharing(dataset.folder + "/" + first.file)
      let begin = (viewers.rank + number) % viewers.size
      own += stride(from: begin, to: shards.count, by: viewers.size).map { (folder: dataset.folder, entry: shards[$0]) }
    }
    let rounds = try ranks.allReduce(own.count, .maximum)
    for round in 0..<rounds {
      if round < own.count {
        let (folder, entry) = own[round]
        try checkFile(folder + "/" + entry.file, entry, checksum: true)
      }
      try pause()
    }
  }

  private static func problem(_ path: String, _ entry: DatasetIndex.Shard, _ index: DatasetIndex) -> String? {
    do {
      try checkFile(path, entry, checksum: true)
      let shard = try Shard(path: path, entry: entry, dataset: index.name, labeled: index.labeled)
      let found = try shard.contentDigest()
      return found == shard.digest ? nil : "the SHA-256 of its contents is \(found), expected \(shard.digest)"
    } catch { return (error as? DatasetError)?.reason ?? "\(error)" }
  }

  /// Returns the index at `path` or in the folder `path`, its folder, and its file.
  static func locate(_ path: String) throws -> (index: DatasetIndex, folder: String, file: String) {
    var isFolder: ObjCBool = false
    guard unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw DatasetError(path, "does not exist; expected a dataset's folder or its \(DatasetIndex.fileName)")
    }
    let whole = (path as NSString).standardizingPath
    let folder = isFolder.boolValue ? whole : (whole as NSString).deletingLastPathComponent
    let file = isFolder.boolValue ? folder + "/" + DatasetIndex.fileName : whole
    guard FileManager.default.fileExists(atPath: file) else {
      throw DatasetError(path, "holds no \(DatasetIndex.fileName): not a dataset, or an unfinished import")
    }
    return (try DatasetIndex.read(file), folder.isEmpty ? "." : folder, file)
  }

  /// Checks a shard's file before the HDF5 library opens it, because altered headers can crash the library. What is
  /// whole with the `checksum` of the file is whole without it, too.
  static func checkFile(_ path: String, _ entry: DatasetIndex.Shard, checksum: Bool) throws {
    guard FileManager.default.fileExists(atPath: path) else {
      throw DatasetError(path, "is missing; the index lists it")
    }
    let file = try OpenFile.reading(path)
    let size = try file.size()
    guard size == entry.fileBytes else {
      let word = size < entry.fileBytes ? "truncated" : "altered"
      throw DatasetError(path, "is \(word): it has \(size) bytes, the index says \(entry.fileBytes)")
    }
    var sums = [(gap: entry.imageExtent, expected: entry.restSHA256, what: "its SHA-256 without the images")]
    if checksum { sums.append((0..<0, entry.sha256, "its SHA-256")) }
    for (gap, expected, what) in sums {
      let found = try file.sha256(without: gap)
      guard found == expected else {
        throw DatasetError(path, "is altered: \(what) is \(found), the index says \(expected)")
      }
    }
  }
}
