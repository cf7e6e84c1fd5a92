import Dist

/// Karpathy's splits of COCO and Flickr, as in `dataset_coco.json` and `dataset_flickr30k.json`.
///
/// Every entry of `images` has its `split`, the picture's `filename` in the folder `filepath` (COCO only), and
/// `sentences` with the caption in `raw`, which stay in their order.
enum KarpathySplits {
  /// - Parameter splits: those to import, such as test, or train and restval.
  static func read(
    _ document: JSONRecord, of path: String, splits: [String], images folder: String, corpus: String
  ) throws -> PictureList {
    let images: [StrictJSON]
    do throws(JSONRecord.Reason) { images = try document.array("images") } catch {
      throw ImportError(path, "is not a file of Karpathy's splits: it \(error.words)")
    }
    var list = PictureList(path, images: folder, corpus: corpus)
    var sizes: [String: Int] = [:]
    for (place, record) in images.records("images", otherwise: { list.reject($0, $1) }) {
      do {
        let split = try record.string("split")
        sizes[split, default: 0] += 1
        guard splits.contains(split) else { continue }
        try add(record, at: place, to: &list)
      } catch let reason as JSONRecord.Reason { list.reject(place, reason.words) }
    }
    let known = sizes.sorted { $0.key < $1.key }.map { "\($0.key) (\($0.value))" }.joined(separator: ", ")
    guard !splits.isEmpty else { throw ImportError(path, "has the splits \(known); name what to import with --split") }
    for split in splits where sizes[split] == nil {
      throw ImportError(path, "has no split \"\(split)\"; it has \(known.isEmpty ? "none" : known)")
    }
    return list
  }

  private static func add(_ record: JSONRecord, at place: String, to list: inout PictureList) throws {
    let name = try record.string("filename")
    let folder = try record.optionalString("filepath").map { $0.isEmpty ? "" : $0 + "/" } ?? ""
    let sentences = try record.array("sentences")
    guard let picture = try list.add(name.isEmpty ? "" : folder + name, at: place) else { return }
    for (place, sentence) in sentences.records("\(place).sentences", otherwise: { list.reject($0, $1) }) {
      do throws(JSONRecord.Reason) { list.add(caption: try sentence.string("raw"), to: picture, at: place) } catch {
        list.reject(place, error.words)
      }
    }
  }
}
