import Foundation

/// What the sub-folders of a folder of pictures say of their classes.
struct ClassFolders {
  /// The classes' names by label; empty where folders are named by labels.
  let labels: [String]
  /// How many folders that all pictures share stand above those of the classes (`sketch/n01440764/…` has one).
  private let depth: Int
  /// The labels by folder.
  private let numbers: [String: Int]

  /// - Parameter format: a form of folder; nil: by the folders' names.
  /// - Parameter ids: ImageNet's; needed where the pictures are not of all its classes.
  init(_ paths: [String], in folder: String, format: ImportFormat?, ids: WordNetIDs?) throws(ImportError) {
    let shared = Self.sharedFolders(paths)
    let names = Set(paths.compactMap { Self.name($0, depth: shared) })
    let nested = !paths.isEmpty && paths.allSatisfy { Self.name($0, depth: shared) != nil }
    let guess: ImportFormat =
      if nested, names.allSatisfy(WordNetIDs.isOne) {
        .imagenet
      } else if nested, names.allSatisfy(Self.isNumber) { .imagenetV2 } else { .folder }

    switch format ?? guess {
    case .imagenet:
      try Self.check(guess == .imagenet, folder, names, "WordNet ids (n01440764, …)")
      let ids = if let ids { ids } else { try Self.all(names, in: folder) }
      if let unknown = names.subtracting(ids.names).min() {
        throw ImportError(folder, "the folder \(unknown) is none of the \(ids.names.count) classes that --wnids lists")
      }
      depth = shared
      labels = ids.names
      numbers = ids.labels
    case .imagenetV2:
      try Self.check(guess == .imagenetV2, folder, names, "numbers (0, 1, …)")
      let values = names.compactMap { name in Int(name).map { (name, $0) } }
      guard Set(values.map(\.1)).count == values.count else {
        throw ImportError(folder, "two of its folders are the same number, such as 7 and 07; rename one")
      }
      depth = shared
      labels = []
      numbers = Dictionary(uniqueKeysWithValues: values)
    default:
      depth = 0
      labels =
        paths.allSatisfy { $0.contains("/") }
        ? Set(paths.compactMap { Self.name($0, depth: 0) }).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) } : []
      numbers = Dictionary(uniqueKeysWithValues: labels.enumerated().map { ($1, $0) })
    }
  }

  /// Whether there are classes at all.
  var isEmpty: Bool { numbers.isEmpty }

  func label(of path: String) -> Int? { Self.name(path, depth: depth).flatMap { numbers[$0] } }

  private static func check(
    _ isSo: Bool, _ folder: String, _ names: Set<String>, _ expected: String
  ) throws(ImportError) {
    guard !isSo else { return }
    let others = names.filter { !WordNetIDs.isOne($0) && !isNumber($0) }.sorted().prefix(3)
    let found = others.isEmpty ? "others" : others.map { "\"\($0)\"" }.joined(separator: ", ")
    throw ImportError(folder, "expected every picture in a folder named by \(expected), found \(found)")
  }

  /// The ids of all folders, if these are ImageNet's.
  private static func all(_ names: Set<String>, in folder: String) throws(ImportError) -> WordNetIDs {
    guard names.count == WordNetIDs.count else {
      throw ImportError(
        folder,
        """
        has \(names.count) folders named by WordNet ids, not ImageNet's \(WordNetIDs.count), among which a label is a \
        position; list them with --wnids, or number these folders 0 to \(names.count - 1) with --format folder
        """)
    }
    return try WordNetIDs(Array(names), at: folder)
  }

  /// The folder of a path below `depth` others; nil where the path has none there.
  private static func name(_ path: String, depth: Int) -> String? {
    let steps = path.split(separator: "/", maxSplits: depth + 1)
    return steps.count == depth + 2 ? String(steps[depth]) : nil
  }

  /// How many folders from the top all pictures share before names can be those of classes.
  private static func sharedFolders(_ paths: [String]) -> Int {
    var depth = 0
    while let name = paths.first.flatMap({ name($0, depth: depth) }), !WordNetIDs.isOne(name), !isNumber(name),
      paths.allSatisfy({ Self.name($0, depth: depth) == name })
    {
      depth += 1
    }
    return depth
  }

  private static func isNumber(_ name: some StringProtocol) -> Bool {
    (1...9).contains(name.utf8.count)
      && name.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
  }
}
