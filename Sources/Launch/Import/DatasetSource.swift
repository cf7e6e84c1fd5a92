import Dist
import Foundation

/// The samples of a dataset, of which an import may keep some. Images, captions, keys and labels stay as they are.
struct DatasetSource: ImportSource {
  private let dataset: Dataset

  init(_ path: String) throws { dataset = try Dataset.open(path) }

  /// Returns whether there is a dataset at `path`, or in the folder `path`.
  static func isOne(_ path: String) -> Bool {
    UserFiles.isFolder(path) == true
      ? UserFiles.isFolder("\(path)/\(DatasetIndex.fileName)") == false
      : URL(filePath: path).lastPathComponent == DatasetIndex.fileName
  }

  var count: Int { dataset.count }
  var labeled: Bool { dataset.index.labeled }
  var labels: [String] { dataset.index.labels }

  func entries() -> ImportReader {
    var samples = (0..<dataset.count).makeIterator()
    return { samples.next().map { .item(item($0)) } }
  }

  private func item(_ sample: Int) -> ImportItem {
    let (shard, bytes) = dataset.imagePlace(sample)
    let key = dataset.key(sample)
    return ImportItem(
      place: key, path: shard, bytes: bytes, key: key, captions: dataset.captions(sample),
      label: dataset.label(sample))
  }
}
