import Foundation

/// The folder that img2dataset leaves: shards by number, each with a tar (`00017.tar`) or a folder of pictures
/// (`00017/`), and, once it is whole, `00017_stats.json`.
///
/// Its checksums are of the pictures as they were fetched, before they were shrunk and encoded again, so they say
/// nothing of the files that are here.
struct Img2Dataset {
  let folder: String
  private var tars: Set<String> = []
  private var folders: Set<String> = []
  private var finished: Set<String> = []

  init(_ folder: String) throws {
    self.folder = folder
    for name in try ImportError.naming(folder, { try FileManager.default.contentsOfDirectory(atPath: folder) }) {
      guard let match = name.wholeMatch(of: /([0-9]{5,})(\.tar|_stats\.json)?/) else { continue }
      let shard = String(match.1)
      switch match.2 {
      case ".tar": tars.insert(shard)
      case "_stats.json": finished.insert(shard)
      default: folders.insert(shard)
      }
    }
  }

  /// Whether the folder looks like one of img2dataset's.
  var isOne: Bool { !finished.isEmpty }

  /// Opens the samples of all shards, in the order of their numbers. A shard that img2dataset has not finished is an
  /// error.
  func open(corpus: String, captionKeys: [String], keysByTar: Bool) throws -> any ImportSource {
    let shards = tars.isEmpty ? folders : tars
    guard isOne, !shards.isEmpty else {
      throw ImportError(
        folder,
        """
        holds no shards of img2dataset's (00000.tar or 00000/, and 00000_stats.json); with its output_format \
        webdataset or files it leaves them
        """)
    }
    let name = { (shard: String) in tars.isEmpty ? shard : shard + ".tar" }
    if let shard = shards.subtracting(finished).min() {
      throw ImportError(
        folder, "has \(name(shard)) but no \(shard)_stats.json: img2dataset has not finished it; run it again")
    }
    if let shard = finished.subtracting(shards).min() {
      throw ImportError(folder, "has \(shard)_stats.json but no \(name(shard)); fetch it again, or remove that file")
    }
    guard !tars.isEmpty else {
      guard !keysByTar else {
        throw ImportError(folder, "has folders and no tars: --keys-by-tar has no meaning; leave it out", exitCode: 64)
      }
      return try FolderSource(folder, corpus: corpus, format: .img2dataset, captionKeys: captionKeys)
    }
    let numbers = shards.sorted { ($0.count, $0) < ($1.count, $1) }
    return try TarSource(
      numbers.map { "\(folder)/\($0).tar" }, corpus: corpus, captionKeys: captionKeys, keysByTar: keysByTar,
      expected: try numbers.map(successes))
  }

  private func successes(_ shard: String) throws -> Int {
    let path = "\(folder)/\(shard)_stats.json"
    let record = try JSONRecord.document(path)
    do throws(JSONRecord.Reason) { return try record.integer("successes") } catch {
      throw ImportError(path, "is no file of img2dataset's: it \(error.words)")
    }
  }
}
