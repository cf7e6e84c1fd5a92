import Dist

/// Flickr30k's own lists of captions, all of its pictures in one: `results_20130124.token` (`name#number`, a tab, the
/// caption), or `results.csv` (`name| number| caption` below a header).
///
/// Pictures are in the order in which they come first, a picture's captions in the order of their numbers. Quotes are
/// characters like any other.
enum FlickrCaptions {
  private struct Line {
    var name: String
    var number: Int
    var caption: String
  }

  private struct Picture {
    var place: String
    var name: String
    var captions: [Int: (place: String, text: String)] = [:]
  }

  static func read(_ path: String, images folder: String, corpus: String) throws -> PictureList {
    let bar = UInt8(ascii: "|")
    var reader = try DelimitedReader(path, separator: bar, quoted: false)
    let barred = try reader.next()?.fields.first == Array("image_name".utf8)
    if !barred { reader = try DelimitedReader(path, separator: UInt8(ascii: "\t"), quoted: false) }

    var list = PictureList(path, images: folder, corpus: corpus)
    var pictures: [Picture] = []
    var positions: [String: Int] = [:]
    while let record = try reader.next() {
      let place = "line \(record.line)"
      switch line(record, barred: barred) {
      case .failure(let reason): list.reject(place, reason.words)
      case .success(let line):
        let position = positions[line.name] ?? pictures.count
        if position == pictures.count {
          positions[line.name] = position
          pictures.append(Picture(place: place, name: line.name))
        }
        if let earlier = pictures[position].captions[line.number] {
          list.reject(place, "has caption \(line.number) of \"\(line.name)\" again, after \(earlier.place)")
        } else {
          pictures[position].captions[line.number] = (place, line.caption)
        }
      }
    }
    for picture in pictures {
      guard let index = try list.add(picture.name, at: picture.place) else { continue }
      for (_, caption) in picture.captions.sorted(by: { $0.key < $1.key }) {
        list.add(caption: caption.text, to: index, at: caption.place)
      }
    }
    return list
  }

  private static func line(
    _ record: DelimitedReader.Record, barred: Bool
  ) -> Result<Line, TableLayout.Reason> {
    let expected = barred ? 3 : 2
    guard record.fields.count == expected else {
      return .failure(.init("has \(record.fields.count) fields, expected \(expected)"))
    }
    let texts = record.fields.compactMap { String(validating: $0, as: UTF8.self) }
    guard texts.count == expected else { return .failure(.init("is not UTF-8")) }
    let trimmed = texts.map { String($0.drop { $0 == " " }) }
    if barred {
      guard let number = Int(trimmed[1]) else {
        return .failure(.init("expected a caption's number, found \"\(trimmed[1])\""))
      }
      return .success(Line(name: trimmed[0], number: number, caption: trimmed[2]))
    }
    guard let mark = trimmed[0].lastIndex(of: "#"), let number = Int(trimmed[0][trimmed[0].index(after: mark)...])
    else {
      return .failure(.init("expected name#number before the tab, found \"\(trimmed[0])\""))
    }
    return .success(Line(name: String(trimmed[0][..<mark]), number: number, caption: trimmed[1]))
  }
}
