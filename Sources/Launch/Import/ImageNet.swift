import Dist
import Foundation

/// The WordNet ids of ImageNet's 1,000 classes, sorted: a class's label is its position. The public lists of the
/// classes' names have the same order.
struct WordNetIDs: Equatable {
  static let count = 1000
  let names: [String]

  static func isOne(_ name: some StringProtocol) -> Bool {
    name.utf8.count == 9 && name.utf8.first == UInt8(ascii: "n") && name.utf8.dropFirst().areDigits
  }

  init(_ names: [String], at place: String) throws(UserError) {
    if let wrong = names.first(where: { !Self.isOne($0) }) {
      throw UserError(place, "\"\(wrong)\" is not a WordNet id (an n and eight digits)")
    }
    self.names = Set(names).sorted()
    guard self.names.count == names.count else { throw UserError(place, "names a WordNet id twice") }
    guard names.count == Self.count else {
      throw UserError(place, "holds \(Figures.count(names.count, "WordNet id")); ImageNet has \(Self.count) classes")
    }
  }

  /// Reads a list: text whose lines begin with an id (such as `LOC_synset_mapping.txt`), `imagenet_class_index.json`,
  /// or a dataset that was imported from all of ImageNet's folders.
  static func read(_ path: String) throws -> WordNetIDs {
    guard let isFolder = UserFiles.isFolder(path) else {
      throw UserError(path, "does not exist; expected a list of ImageNet's WordNet ids")
    }
    if isFolder { return try WordNetIDs(try Dataset.open(path).index.labels, at: path) }
    let text = try TextFile.read(path)
    if text.first(where: { !$0.isWhitespace }) == "{" { return try classIndex(path) }
    let lines = text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
    return try WordNetIDs(lines.filter { !$0.isEmpty }.map { String($0.prefix { !$0.isWhitespace }) }, at: path)
  }

  /// Reads `{"0": ["n01440764", "tench"], …}`.
  private static func classIndex(_ path: String) throws -> WordNetIDs {
    if path.hasSuffix("/" + DatasetIndex.fileName) || path == DatasetIndex.fileName {
      return try WordNetIDs(try DatasetIndex.read(path).labels, at: path)
    }
    let document = try JSONRecord.document(path)
    let names = try (0..<count).map { label in
      guard case .array(let entry)? = document.value("\(label)"), case .string(let name)? = entry.first else {
        throw UserError(path, "expected {\"0\": [\"n…\", \"name\"], …}, and there is no such entry for \"\(label)\"")
      }
      return name
    }
    let ids = try WordNetIDs(names, at: path)
    guard let label = names.indices.first(where: { names[$0] != ids.names[$0] }) else { return ids }
    throw UserError(path, "gives \(names[label]) the label \(label), which is another class's in ImageNet's order")
  }
}

/// Reads the classes of ImageNet's validation images from `LOC_val_solution.csv`. `ImageId` names the image
/// `ImageId.JPEG`, and `PredictionString` holds one or several boxes, each a WordNet id and four numbers. The images
/// lie in one folder.
enum ImageNetSolution {
  private typealias Line = Result<(name: String, id: String), ImportReason>

  static func read(_ path: String, images folder: String, dataset: String, ids: WordNetIDs?) throws -> ImageList {
    var lines: [(place: String, content: Line)] = []
    var reader = try DelimitedReader(path, separator: UInt8(ascii: ","), quoted: true)
    let header = try reader.next()?.fields.map { String(decoding: $0, as: UTF8.self) }
    guard header == ["ImageId", "PredictionString"] else {
      throw UserError(path, "expected the columns ImageId,PredictionString, found \(header ?? [])")
    }
    while let record = try reader.next() { lines.append(("line \(record.line)", line(record))) }

    let found = Set(lines.compactMap { try? $0.content.get().id })
    guard ids != nil || found.count == WordNetIDs.count else {
      let classes = Figures.count(found.count, "class", "classes")
      throw UserError(path, "names \(classes), not all \(WordNetIDs.count); list them with --wnids")
    }
    let all = try ids ?? WordNetIDs(Array(found), at: path)
    let labels = all.names.positions
    var list = ImageList(path, images: folder, dataset: dataset, labels: all.names)
    for line in lines {
      switch line.content {
      case .failure(let reason): list.reject(line.place, reason.words)
      case .success(let (name, id)) where labels[id] == nil:
        list.reject(line.place, key: name, "\(id) is none of the \(all.names.count) classes")
      case .success(let (name, id)): _ = try list.add(name + ".JPEG", label: labels[id], at: line.place)
      }
    }
    return list
  }

  private static func line(_ record: DelimitedReader.Record) -> Line {
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
    guard !fields[0].isEmpty else { return .failure(.init("names no image")) }
    return .success((fields[0], id))
  }
}
