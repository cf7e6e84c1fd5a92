import Dist
import Foundation

/// A folder that img2dataset has written: numbered shards, each a tar (`00017.tar`) or a folder of images (`00017/`),
/// and, once the shard is complete, `00017_stats.json`.
///
/// Its checksums belong to the images as they were fetched, before they were shrunk and encoded again, so they cannot
/// verify the files that are here.
struct Img2Dataset {
  let folder: String
  private var tars: Set<String> = []
  private var folders: Set<String> = []
  private var finished: Set<String> = []

  init(_ folder: String) throws {
    self.folder = folder
    for name in try UserFiles.names(in: folder) {
      guard let match = name.wholeMatch(of: /([0-9]{5,})(\.tar|_stats\.json)?/) else { continue }
      let shard = String(match.1)
      switch match.2 {
      case ".tar": tars.insert(shard)
      case "_stats.json": finished.insert(shard)
      default: folders.insert(shard)
      }
    }
  }

  /// True if img2dataset has finished a shard in the folder.
  var isOne: Bool { !finished.isEmpty }

  /// Opens the samples of all shards, in the order of their numbers. An unfinished shard is an error.
  func open(dataset: String, captionKeys: [String], keysByTar: Bool) throws -> any ImportSource {
    let shards = tars.isEmpty ? folders : tars
    guard isOne, !shards.isEmpty else {
      throw UserError(
        folder,
        """
        holds no img2dataset shards (00000.tar or 00000/, and 00000_stats.json); img2dataset writes them with \
        output_format webdataset or files
        """)
    }
    let name = { (shard: String) in tars.isEmpty ? shard : shard + ".tar" }
    if let shard = shards.subtracting(finished).min() {
      throw UserError(
        folder, "has \(name(shard)) but no \(shard)_stats.json: img2dataset has not finished it; run it again")
    }
    if let shard = finished.subtracting(shards).min() {
      throw UserError(folder, "has \(shard)_stats.json but no \(name(shard)); fetch it again, or remove that file")
    }
    guard !tars.isEmpty else {
      guard !keysByTar else {
        throw UserError(folder, "has folders and no tars; leave --keys-by-tar out", status: .usage)
      }
      return try FolderSource(folder, dataset: dataset, format: .img2dataset, captionKeys: captionKeys)
    }
    let numbers = shards.sorted { ($0.count, $0) < ($1.count, $1) }
    return try TarSource(
      numbers.map { "\(folder)/\($0).tar" }, dataset: dataset, captionKeys: captionKeys, keysByTar: keysByTar,
      expected: try numbers.map(successes))
  }

  private func successes(_ shard: String) throws -> Int {
    let path = "\(folder)/\(shard)_stats.json"
    let record = try JSONRecord.document(path)
    do throws(ImportReason) { return try record.integer("successes") } catch {
      throw UserError(path, "is not a file of img2dataset: it \(error.words)")
    }
  }
}
