import Dist

/// Reads COCO's caption annotations, such as `captions_val2017.json`.
///
/// `images` gives the images and their order by `id` and `file_name`; `annotations` gives captions by `image_id`, in
/// no order of images. An image's captions keep the order of the file.
enum COCOCaptions {
  static func read(
    _ document: JSONRecord, of path: String, images folder: String, dataset: String
  ) throws -> ImageList {
    var list = ImageList(path, images: folder, dataset: dataset)
    let listed: [StrictJSON]
    let annotations: [StrictJSON]
    do throws(ImportReason) {
      listed = try document.array("images")
      annotations = try document.array("annotations")
    } catch { throw UserError(path, "is not a file of COCO's captions: it \(error.words)") }
    guard annotations.contains(where: { JSONRecord($0)?.has("caption") ?? false }) else {
      throw UserError(path, "none of its \(annotations.count) annotations has a caption; give a captions_….json")
    }

    var images: [Int: ImageList.Index?] = [:]
    var places: [Int: String] = [:]
    try list.readObjects(of: listed, named: "images") { list, place, record in
      let id = try record.integer("id")
      if let earlier = places.updateValue(place, forKey: id) {
        throw UserError(path, "\(earlier) and \(place) have the same id \(id)")
      }
      // Entered even if the image is left out, so that its captions are left out with it.
      images[id] = .some(nil)
      images[id] = try list.add(try record.string("file_name"), at: place)
    }
    try list.readObjects(of: annotations, named: "annotations") { list, place, record in
      let id = try record.integer("image_id")
      guard let image = images[id] else {
        throw ImportReason("belongs to the image \(id), which the file does not list")
      }
      let caption = try record.string("caption")
      if let image { list.add(caption: caption, to: image, at: place) }
    }
    return list
  }
}

/// Reads Karpathy's splits of COCO and Flickr, such as `dataset_coco.json` and `dataset_flickr30k.json`.
///
/// Every entry of `images` has its `split`, the image's `filename` in the folder `filepath` (COCO only), and
/// `sentences` with the captions in `raw`, which keep their order.
enum KarpathySplits {
  /// - Parameter splits: the splits to import, such as test, or train and restval.
  static func read(
    _ document: JSONRecord, of path: String, splits: [String], images folder: String, dataset: String
  ) throws -> ImageList {
    let images: [StrictJSON]
    do throws(ImportReason) { images = try document.array("images") } catch {
      throw UserError(path, "is not a file of Karpathy's splits: it \(error.words)")
    }
    var list = ImageList(path, images: folder, dataset: dataset)
    var sizes: [String: Int] = [:]
    try list.readObjects(of: images, named: "images") { list, place, record in
      let split = try record.string("split")
      sizes[split, default: 0] += 1
      if splits.contains(split) { try add(record, at: place, to: &list) }
    }
    let known = sizes.sorted { $0.key < $1.key }.map { "\($0.key) (\($0.value))" }.joined(separator: ", ")
    guard !splits.isEmpty else { throw UserError(path, "has the splits \(known); name what to import with --split") }
    for split in splits where sizes[split] == nil {
      throw UserError(path, "has no split \"\(split)\"; it has \(known.isEmpty ? "none" : known)")
    }
    return list
  }

  private static func add(_ record: JSONRecord, at place: String, to list: inout ImageList) throws {
    let name = try record.string("filename")
    let folder = try record.optionalString("filepath").map { $0.isEmpty ? "" : $0 + "/" } ?? ""
    let sentences = try record.array("sentences")
    guard let image = try list.add(name.isEmpty ? "" : folder + name, at: place) else { return }
    try list.readObjects(of: sentences, named: "\(place).sentences") { list, place, sentence in
      list.add(caption: try sentence.string("raw"), to: image, at: place)
    }
  }
}

/// Reads Flickr30k's own lists of the captions of all its images: `results_20130124.token` (`name#number`, a tab, the
/// caption), or `results.csv` (`name| number| caption` below a header).
///
/// Images are in the order of their first lines, an image's captions in the order of their numbers. Quotes are
/// characters like any other.
enum FlickrCaptions {
  private struct Line {
    var name: String
    var number: Int
    var caption: String
  }

  private struct Image {
    var place: String
    var name: String
    var captions: [Int: (place: String, text: String)] = [:]
  }

  static func read(_ path: String, images folder: String, dataset: String) throws -> ImageList {
    let bar = UInt8(ascii: "|")
    var reader = try DelimitedReader(path, separator: bar, quoted: false)
    let barred = try reader.next()?.fields.first == Array("image_name".utf8)
    if !barred { reader = try DelimitedReader(path, separator: UInt8(ascii: "\t"), quoted: false) }

    var list = ImageList(path, images: folder, dataset: dataset)
    var images: [Image] = []
    var positions: [String: Int] = [:]
    while let record = try reader.next() {
      let place = "line \(record.line)"
      do throws(ImportReason) {
        let line = try Self.line(record, barred: barred)
        let position = positions[line.name] ?? images.count
        if position == images.count {
          positions[line.name] = position
          images.append(Image(place: place, name: line.name))
        }
        if let earlier = images[position].captions[line.number] {
          throw ImportReason("has caption \(line.number) of \"\(line.name)\" again, after \(earlier.place)")
        }
        images[position].captions[line.number] = (place, line.caption)
      } catch { list.reject(place, error.words) }
    }
    for image in images {
      guard let index = try list.add(image.name, at: image.place) else { continue }
      for (_, caption) in image.captions.sorted(by: { $0.key < $1.key }) {
        list.add(caption: caption.text, to: index, at: caption.place)
      }
    }
    return list
  }

  private static func line(_ record: DelimitedReader.Record, barred: Bool) throws(ImportReason) -> Line {
    let expected = barred ? 3 : 2
    guard record.fields.count == expected else {
      throw ImportReason("has \(record.fields.count) fields, expected \(expected)")
    }
    let texts = record.fields.compactMap { String(validating: $0, as: UTF8.self) }
    guard texts.count == expected else { throw ImportReason("is not UTF-8") }
    let trimmed = texts.map { String($0.drop { $0 == " " }) }
    if barred {
      guard let number = Int(trimmed[1]) else {
        throw ImportReason("expected a caption's number, found \"\(trimmed[1])\"")
      }
      return Line(name: trimmed[0], number: number, caption: trimmed[2])
    }
    guard let mark = trimmed[0].lastIndex(of: "#"), let number = Int(trimmed[0][trimmed[0].index(after: mark)...])
    else { throw ImportReason("expected name#number before the tab, found \"\(trimmed[0])\"") }
    return Line(name: String(trimmed[0][..<mark]), number: number, caption: trimmed[1])
  }
}
