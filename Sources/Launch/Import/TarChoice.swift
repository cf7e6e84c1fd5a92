import Dist
import Foundation
import Settings

enum TarChoice {
  /// Returns whether names on the command line mean tars: several names do, and a single one that ends in `.tar` or is
  /// a pattern.
  static func isOne(_ sources: [String]) -> Bool {
    sources.count > 1 || sources.contains { $0.contains("::") || isTar($0) || UserFiles.isPattern($0) }
  }

  private static func isTar(_ name: String) -> Bool { name.lowercased().hasSuffix(".tar") }

  /// Returns true for the name of a table or a list.
  static func isTable(_ name: String) -> Bool {
    ["csv", "json", "jsonl", "parquet", "token", "tsv", "txt"].contains((name as NSString).pathExtension.lowercased())
  }

  /// Returns the tars of names with braces (`cc3m-{00000..00331}.tar`), of patterns that the shell has left as they are
  /// (`'cc3m/*.tar'`), of names joined by two colons, and of folders, in this order. A missing tar is an error that
  /// names it.
  static func paths(_ sources: [String]) throws -> [String] {
    var paths: [String] = []
    // A file whose name is exactly this is taken as it is.
    let parts = sources.flatMap { UserFiles.isFolder($0) == nil ? $0.components(separatedBy: "::") : [$0] }
    for source in parts.map(\.withHome) {
      let exists = UserFiles.isFolder(source) != nil
      let names: [String]
      do throws(ImportReason) { names = try exists ? [source] : BraceExpansion.names(source) } catch {
        throw UserError(source, error.words, status: .usage)
      }
      let found = names.map(UserFiles.matches)
      let missing = names.indices.filter { found[$0].isEmpty }.map { names[$0] }
      if let first = missing.first {
        let what = UserFiles.isPattern(first) ? "matches nothing" : "does not exist"
        let words = names == [source] ? "" : "; \(missing.count) of the \(names.count) that \(source) names are missing"
        throw UserError(first, "\(what); expected a tar\(words)")
      }
      for path in found.joined() {
        let tars = try UserFiles.isFolder(path) == true ? tars(in: path) : [path]
        guard !tars.isEmpty else { throw UserError(path, "holds no .tar") }
        paths += tars
      }
    }
    return paths
  }

  /// Returns the tars that lie in a folder, in the order of their names' bytes.
  static func tars(in folder: String) throws -> [String] {
    try UserFiles.names(in: folder).filter { isTar($0) && !$0.hasPrefix(".") }
      .sortedByBytes().map { folder + "/" + $0 }
  }
}

/// Expands names written as one, as the webdataset library and shells do: `a-{00..11}.tar`, `{train,val}/{0..9}.tar`.
/// `{x..y}` counts from x to y, up or down, with as many digits as the longer one if either begins with 0; `{x..y..s}`
/// counts in steps of s; `{a..e}` runs through letters; `{p,q}` is a list. Braces may follow one another and be nested.
/// Others, such as `{x}`, stand for themselves. The first brace changes slowest.
enum BraceExpansion {
  /// The most names a pattern may stand for; no dataset has as many tars.
  static let most = 1 << 20
  private static let tooMany = ImportReason("stands for more than \(most) names")

  static func names(_ pattern: String) throws(ImportReason) -> [String] {
    var rest = Array(pattern)[...]
    let names = try sequence(&rest, depth: 0)
    guard rest.isEmpty else { throw ImportReason("closes a brace that was not opened") }
    return names
  }

  /// Expands what stands before the next comma or closing brace of this depth; outside of braces a comma is a
  /// character like any other.
  private static func sequence(_ rest: inout ArraySlice<Character>, depth: Int) throws(ImportReason) -> [String] {
    var names = [""]
    while let character = rest.first, character != "}", depth == 0 || character != "," {
      rest.removeFirst()
      guard character == "{" else {
        for index in names.indices { names[index].append(character) }
        continue
      }
      guard depth < 16 else { throw ImportReason("nests braces deeper than 16") }
      let choices = try braces(&rest, depth: depth + 1)
      guard names.count <= most / max(choices.count, 1) else { throw tooMany }
      names = names.flatMap { name in choices.map { name + $0 } }
    }
    return names
  }

  /// Expands a brace whose opening has already been passed.
  private static func braces(_ rest: inout ArraySlice<Character>, depth: Int) throws(ImportReason) -> [String] {
    if let end = rest.firstIndex(where: { "{},".contains($0) }), rest[end] == "}",
      let range = try range(String(rest[..<end]))
    {
      rest = rest[(end + 1)...]
      return range
    }
    var choices: [String] = []
    var items = 0
    while true {
      choices += try sequence(&rest, depth: depth)
      guard choices.count <= most else { throw tooMany }
      items += 1
      guard let character = rest.popFirst() else { throw ImportReason("opens a brace that is not closed") }
      if character == "}" { break }
    }
    return items == 1 ? choices.map { "{\($0)}" } : choices
  }

  /// Returns the names of `x..y` or `x..y..step`, or nil if the text is not a range.
  private static func range(_ text: String) throws(ImportReason) -> [String]? {
    guard
      let match = text.wholeMatch(of: /(-?[0-9]{1,18}|[A-Za-z])\.\.(-?[0-9]{1,18}|[A-Za-z])(?:\.\.(-?[0-9]{1,9}))?/),
      let step = match.3.map({ Int($0) }) ?? 1
    else { return nil }
    let (from, to) = (String(match.1), String(match.2))
    let distance = step == 0 ? 1 : abs(step)
    if let first = Int(from), let last = Int(to) {
      let isPadded = [from, to].contains { $0.count > 1 && ($0.hasPrefix("0") || $0.hasPrefix("-0")) }
      let width = isPadded ? max(from.count, to.count) : 1
      guard abs(last - first) / distance < most else { throw tooMany }
      return stride(from: first, through: last, by: first <= last ? distance : -distance)
        .map { String(format: "%0\(width)ld", $0) }
    }
    guard let first = Unicode.Scalar(from), let last = Unicode.Scalar(to), Int(from) == nil, Int(to) == nil
    else { return nil }
    let (low, high) = (Int(first.value), Int(last.value))
    return stride(from: low, through: high, by: low <= high ? distance : -distance)
      .compactMap { Unicode.Scalar($0).map(String.init) }
  }
}

/// A folder that img2dataset has written: numbered shards, each a tar (`00017.tar`) or a folder of images (`00017/`),
/// and, once the shard is complete, `00017_stats.json`. Its checksums belong to the images as they were fetched, before
/// they were shrunk and encoded again, so they cannot verify the files that are here.
struct Img2Dataset {
  let folder: String
  /// The numbers of the shards, by what follows them in the names of their files.
  private let shards: [String: Set<String>]

  init(_ folder: String) throws {
    self.folder = folder
    shards = try UserFiles.names(in: folder).reduce(into: [:]) { shards, name in
      guard let match = name.wholeMatch(of: /([0-9]{5,})(\.tar|_stats\.json)?/) else { return }
      shards[String(match.2 ?? ""), default: []].insert(String(match.1))
    }
  }

  var isOne: Bool { shards["_stats.json"] != nil }

  /// Opens the samples of all shards, in the order of their numbers. An unfinished shard is an error.
  func open(
    dataset: String, captionKeys: [String], valueColumns: [String], keysByTar: Bool
  ) throws -> any ImportSource {
    let ending = shards[".tar"] == nil ? "" : ".tar"
    guard let finished = shards["_stats.json"], let found = shards[ending] else {
      throw UserError(
        folder,
        """
        holds no img2dataset shards (00000.tar or 00000/, and 00000_stats.json); img2dataset writes them with \
        output_format webdataset or files
        """)
    }
    if let shard = found.subtracting(finished).min() {
      throw UserError(
        folder, "has \(shard)\(ending) but no \(shard)_stats.json: img2dataset has not finished it; run it again")
    }
    if let shard = finished.subtracting(found).min() {
      throw UserError(folder, "has \(shard)_stats.json but no \(shard)\(ending); fetch it again, or remove that file")
    }
    guard !ending.isEmpty else {
      guard !keysByTar else {
        throw UserError(folder, "has folders and no tars; leave --keys-by-tar out", status: .usage)
      }
      return try FolderSource(
        folder, dataset: dataset, format: .img2dataset, captionKeys: captionKeys, valueColumns: valueColumns)
    }
    let numbers = found.sorted { ($0.count, $0) < ($1.count, $1) }
    return try TarSource(
      numbers.map { "\(folder)/\($0).tar" }, dataset: dataset, captionKeys: captionKeys, valueColumns: valueColumns,
      keysByTar: keysByTar, expected: try numbers.map(successes))
  }

  private func successes(_ shard: String) throws -> Int {
    let path = "\(folder)/\(shard)_stats.json"
    let record = try JSONRecord.document(path)
    do throws(ImportReason) { return try record.integer("successes") } catch {
      throw UserError(path, "is not a file of img2dataset: it \(error.words)")
    }
  }
}
