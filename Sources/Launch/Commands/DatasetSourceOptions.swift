import ArgumentParser
import Foundation

/// The options of `kinship dataset import` for sources other than tables.
struct DatasetSourceOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "\(ImportFormat.words). Default: inferred from the source's names and first lines, or keys.",
      valueName: "format"))
  var format: ImportFormat?

  @Option(
    help: ArgumentHelp(
      "The folder of the images that a list names. Default: their folder in the public archive, or the list's own.",
      valueName: "folder"))
  var images: String?

  @Option(
    help: ArgumentHelp(
      "Karpathy's splits to import, separated by commas: test, val, train, restval.", valueName: "names"))
  var split: String?

  @Option(
    help: ArgumentHelp(
      """
      ImageNet's 1,000 WordNet ids, which label folders and images of a part of its classes: a list with one id per \
      line (LOC_synset_mapping.txt is one, and scripts/fetch-vocabulary writes one), imagenet_class_index.json, or a \
      dataset that was imported from all of its folders.
      """, valueName: "path"))
  var wnids: String?

  @Option(
    help: ArgumentHelp(
      """
      The keys of captions in the .json files of tars and folders, separated by commas; each a string or a list of \
      strings. Default: the lines of the .txt files, or else the key caption.
      """, valueName: "names"))
  var captionKeys: String?

  @Flag(help: "Prefixes each sample's key with the name of its tar, for tars that reuse the same names.")
  var keysByTar = false

  /// The choice that these options and a table's make.
  func choice(_ table: DatasetTableOptions) -> SourceChoice {
    SourceChoice(
      format: format, images: images, splits: split.map(Self.names) ?? [], wnids: wnids,
      captionKeys: captionKeys.map(Self.names) ?? [], keysByTar: keysByTar, columns: table.columns,
      separator: table.separator?.byte, quoted: !table.noQuotes)
  }

  static func names(_ list: String) -> [String] {
    list.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
  }
}
