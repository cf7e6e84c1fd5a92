import Foundation

/// The classes of ImageNet's validation pictures, as in `LOC_val_solution.csv`: `ImageId`, and in `PredictionString`
/// one or several boxes, each a WordNet id and four numbers. The pictures are `ImageId.JPEG` in one folder.
enum ImageNetSolution {
  static func read(_ path: String, images folder: String, corpus: String, ids: WordNetIDs?) throws -> PictureList {
    var lines: [(place: String, content: Result<(name: String, id: String), TableLayout.Reason>)] = []
    var reader = try DelimitedReader(path, separator: UInt8(ascii: ","), quoted: true)
    let header = try reader.next()?.fields.map { String(decoding: $0, as: UTF8.self) }
    guard header == ["ImageId", "PredictionString"] else {
      throw ImportError(path, "expected the columns ImageId,PredictionString, found \(header ?? [])")
    }
    while let record = try reader.next() { lines.append(("line \(record.line)", line(record))) }

    let found = Set(lines.compactMap { try? $0.content.get().id })
    guard ids != nil || found.count == WordNetIDs.count else {
      throw ImportError(path, "names \(found.count) classes, not all \(WordNetIDs.count); list them with --wnids")
    }
    let all = try ids ?? WordNetIDs(Array(found), at: path)
    let labels = all.labels
    var list = PictureList(path, images: folder, corpus: corpus, labels: all.names)
    for line in lines {
      switch line.content {
      case .failure(let reason): list.reject(line.place, reason.words)
      case .success(let (name, id)):
        guard let label = labels[id] else {
          list.reject(line.place, key: name, "\(id) is none of the \(all.names.count) classes")
          continue
        }
        _ = try list.add(name + ".JPEG", label: label, at: line.place)
      }
    }
    return list
  }

  private static func line(
    _ record: DelimitedReader.Record
  ) -> Result<(name: String, id: String), TableLayout.Reason> {
    let fields = record.fields.compactMap { String(validating: $0, as: UTF8.self) }
    guard fields.count == 2, record.fields.count == 2 else {
      return .failure(.init("expected an image and its boxes, two fields in UTF-8"))
    }
    let words = fields[1].split(separator: " ")
    let ids = Set(words.indices.filter { $0 % 5 == 0 }.map { String(words[$0]) })
    guard words.count % 5 == 0, let id = ids.first, WordNetIDs.isOne(id) else {
      return .failure(.init("expected boxes of a WordNet id and four numbers, found \"\(fields[1])\""))
    }
    guard ids.count == 1 else { return .failure(.init("has boxes of several classes, \(ids.sorted())")) }
    guard !fields[0].isEmpty else { return .failure(.init("names no picture")) }
    return .success((fields[0], id))
  }
}
