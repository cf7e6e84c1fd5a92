import Dist

/// COCO's caption annotations, as in `captions_val2017.json`.
///
/// `images` gives the pictures and their order by `id` and `file_name`; `annotations` gives captions by `image_id`, in
/// no order of pictures. A picture's captions stay in the order in which the file has them.
enum COCOCaptions {
  static func read(
    _ document: JSONRecord, of path: String, images folder: String, corpus: String
  ) throws -> PictureList {
    var list = PictureList(path, images: folder, corpus: corpus)
    let images: [StrictJSON]
    let annotations: [StrictJSON]
    do throws(JSONRecord.Reason) {
      images = try document.array("images")
      annotations = try document.array("annotations")
    } catch { throw ImportError(path, "is not a file of COCO's captions: it \(error.words)") }
    guard annotations.contains(where: { JSONRecord($0)?.has("caption") ?? false }) else {
      throw ImportError(path, "none of its \(annotations.count) annotations has a caption; give a captions_….json")
    }

    var pictures: [Int: PictureList.Index?] = [:]
    var places: [Int: String] = [:]
    for (place, record) in images.records("images", otherwise: { list.reject($0, $1) }) {
      do {
        let id = try record.integer("id")
        if let earlier = places.updateValue(place, forKey: id) {
          throw ImportError(path, "\(earlier) and \(place) have the same id \(id)")
        }
        // Noted even if it is left out, so that its captions are left out with it.
        pictures[id] = .some(nil)
        pictures[id] = try list.add(try record.string("file_name"), at: place)
      } catch let reason as JSONRecord.Reason { list.reject(place, reason.words) }
    }
    for (place, record) in annotations.records("annotations", otherwise: { list.reject($0, $1) }) {
      do throws(JSONRecord.Reason) {
        let id = try record.integer("image_id")
        guard let picture = pictures[id] else {
          list.reject(place, "belongs to the picture \(id), which the file does not list")
          continue
        }
        let caption = try record.string("caption")
        if let picture { list.add(caption: caption, to: picture, at: place) }
      } catch { list.reject(place, error.words) }
    }
    return list
  }
}
