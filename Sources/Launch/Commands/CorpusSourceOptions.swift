import ArgumentParser
import Foundation

/// What `kinship corpus import` is given, beyond tables.
struct CorpusSourceOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "\(ImportFormat.words). Default: what the source's names and first lines, or keys, say.", valueName: "format"))
  var format: ImportFormat?

  @Option(
    help: ArgumentHelp(
      "The folder of the pictures that a list names. Default: where the public archive has them, or the list's own.",
      valueName: "folder"))
  var images: String?

  @Option(
    help: ArgumentHelp(
      "Karpathy's splits to import, separated by commas: test, val, train, restval.", valueName: "names"))
  var split: String?

  @Option(
    help: ArgumentHelp(
      """
      ImageNet's 1,000 WordNet ids, which give folders and pictures of some of its classes their labels: a list with \
      one a line (LOC_synset_mapping.txt is one, and scripts/fetch-vocabulary writes one), imagenet_class_index.json, \
      or a corpus that was imported from all of its folders.
      """, valueName: "path"))
  var wnids: String?

  @Option(
    help: ArgumentHelp(
      """
      The keys of captions in the .json files of tars and folders, separated by commas; each a string or a list of \
      strings. Default: the lines of the .txt files, or else the key caption.
      """, valueName: "names"))
  var captionKeys: String?

  @Flag(help: "Puts the name of its tar before each sample's key, for tars that begin anew with their names.")
  var keysByTar = false

  /// The choice that these options and a table's make.
  func choice(_ table: CorpusTableOptions) -> SourceChoice {
    SourceChoice(
      format: format, images: images, splits: split.map(Self.names) ?? [], wnids: wnids,
      captionKeys: captionKeys.map(Self.names) ?? [], keysByTar: keysByTar, columns: table.columns,
      separator: table.separator?.byte, quoted: !table.noQuotes)
  }

  static func names(_ list: String) -> [String] {
    list.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
  }
}
