import ArgumentParser
import Dist
import Foundation
import Model

struct DatasetImport: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import",
    abstract: "Imports a table or list of images and captions, a folder of images, tars, or a part of a dataset.",
    discussion: """
      A table (CSV, TSV) has a header and one image per line; its paths are relative to its folder, and several lines \
      for one image give it several captions. A folder holds images with their captions in text files beside them \
      (fox.png, fox.txt: one caption per line), or sub-folders that are classes: named by WordNet ids (ImageNet, -R, \
      -Sketch), by numbers that are the labels (ImageNet-V2), or numbered in the order of their names. Lists are \
      COCO's captions_….json (captions in the file's order), Karpathy's dataset_….json (with --split), Flickr30k's \
      results_20130124.token or results.csv, and ImageNet's LOC_val_solution.csv.

      Tars have webdataset's form: adjacent files that share a name up to the first dot are one sample (0017.jpg, \
      0017.txt, 0017.json with a caption, 0017.cls with a label). Name several with braces in quotes \
      ('cc3m-{00000..00331}.tar', '{train,val}-{0..9}.tar'), by a pattern ('cc3m/*.tar'), by their folder, or one by \
      one. From the folder that img2dataset leaves, all tars are imported, or all images; a shard that it has not \
      finished is an error.

      Images (JPEG, PNG, WebP) are stored byte for byte. One that is missing, of another format, or cannot be decoded \
      is left out, counted, and listed with the reason in rejected.tsv beside the index, corpus.json.

      With --keep only samples are imported whose numbers meet conditions: numbers in columns of the table, under keys \
      of the .json files of tars and folders, or in a table of scores by key (--scores), as kinship dataset score \
      writes it. A sample without such a number is left out and counted; a column that no sample has is an error. The \
      source may be a dataset itself, of which a part is then made.

      Examples:

        kinship dataset import images.tsv --output data/mine
        kinship dataset import 'cc3m-{00000..00331}.tar' --output data/cc3m
        kinship dataset import 'laion/*.tar' --keep 'similarity>0.3' --output data/l
      """)

  @OptionGroup var form: DatasetSourceOptions
  @OptionGroup(title: "Tables") var table: DatasetTableOptions
  @OptionGroup(title: "Samples to keep") var kept: DatasetKeepOptions
  @Argument(help: "The table, the list, the folder, the tars or the dataset.") var sources: [String]
  @Option(help: ArgumentHelp("The folder for the dataset: new, or empty.", valueName: "folder")) var output: String
  @Option(
    help: """
      The dataset's name, part of every sample's identity: crops and the choice of captions depend on it. Default: the \
      output folder's name.
      """)
  var name: String?
  @Option(help: "Pixels of an image at most; a larger one is refused by its header, before it is decoded.")
  var maxPixels = ImageDecoder.defaultMaxPixels
  @Option(help: "Samples of a shard at most.") var shardSamples = 16_384
  @Option(help: "Size of a shard at most, in MiB; its last image may exceed it.") var shardSize = 256
  @Option(help: "Threads that read and decode. Default: one per core.") var workers: Int?
  @Flag(
    help: """
      Replaces the dataset that the output folder holds, once the new one is complete: until then both need space, and \
      if the import fails, the earlier one stays.
      """)
  var overwrite = false

  func validate() throws {
    for (name, value, most) in [
      ("max-pixels", maxPixels, 1 << 40), ("shard-samples", shardSamples, 1 << 40), ("shard-size", shardSize, 1 << 40),
      ("workers", workers ?? 1, 1024),
    ] where !(1...most ~= value) {
      throw ValidationError("--\(name) must be from 1 to \(most), found \(value)")
    }
  }

  func run() throws {
    // A dataset is written by one process; the others of a job have nothing to do.
    guard Machine.isFirstRank else { return }
    let folder = (output as NSString).standardizingPath
    let name = name ?? URL(filePath: folder).lastPathComponent
    let origin = sources.count == 1 ? sources[0] : "\(sources[0]) and \(sources.count - 1) more"
    let (filter, columns) = try kept.filter()
    var choice = form.choice(table)
    choice.valueColumns = columns
    let importer = DatasetImporter(
      name: name, folder: folder, origin: origin,
      limits: .init(samples: shardSamples, bytes: shardSize << 20), maxPixels: maxPixels,
      workers: workers ?? Cores.current.bound.count, overwrite: overwrite, filter: filter)
    try StandardOutput.print(importer.run(choice.open(sources, dataset: name)).summary(name))
  }
}

/// The options of `kinship dataset import` for sources other than tables.
struct DatasetSourceOptions: ParsableArguments {
  @Option(help: "\(ImportFormat.words). Default: inferred from the source's names and first lines, or keys.")
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

/// The options of `kinship dataset import` that choose samples by their numbers.
struct DatasetKeepOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      A condition on a number of each sample, in quotes: a column, one of > >= < <= ==, and a number, such as \
      'similarity>0.28'. May be repeated; all must hold.
      """, valueName: "condition"), transform: KeepCondition.parse)
  var keep: [KeepCondition] = []
  @Option(
    help: ArgumentHelp(
      """
      A CSV or TSV table with the column key and columns of numbers, which --keep prefers to the source's own. Each \
      sample has one line.
      """, valueName: "table"))
  var scores: String?

  func validate() throws {
    try require(scores == nil || !keep.isEmpty, "--scores is read for --keep alone; give a condition, or leave it out")
  }

  /// Returns the filter, nil without conditions, and the columns that the source must have for it.
  func filter() throws -> (filter: SampleFilter?, columns: [String]) {
    guard !keep.isEmpty else { return (nil, []) }
    let table = try scores.map { try ScoreTable($0, columns: keep.map(\.column)) }
    let columns = SampleFilter.columns(of: keep, besides: table)
    return (SampleFilter(keep, scores: table, columns: columns), columns)
  }
}

/// The options of `kinship dataset import` for tables.
struct DatasetTableOptions: ParsableArguments {
  @Option(help: "The column of the images' paths.") var imageColumn = "filepath"
  @Option(
    help: ArgumentHelp(
      "The columns of captions, separated by commas. Default: title, which may be absent where there are labels.",
      valueName: "names"))
  var captionColumns: String?
  @Option(
    help: ArgumentHelp(
      "A column of labels: whole numbers as they are (4.0 is 4), or names, numbered in the order of their bytes; a "
        + "column of both is refused.", valueName: "name"))
  var labelColumn: String?
  @Option(
    help: ArgumentHelp(
      "A column of unique keys. Default: the path as the table has it, without its extension. U+FE0F is left out.",
      valueName: "name"))
  var keyColumn: String?
  @Option(
    help: ArgumentHelp(
      "tab, comma, semicolon, or one ASCII character. Default: inferred from the name (.csv: comma, else tab) or the "
        + "header.", valueName: "separator"))
  var separator: Separator?
  @Flag(help: "Treats double quotes in tables as plain characters.") var noQuotes = false

  struct Separator: ExpressibleByArgument {
    let byte: UInt8

    init?(argument: String) {
      let names = ["tab": "\t", "comma": ",", "semicolon": ";"]
      let text = Array((names[argument] ?? argument).utf8)
      guard text.count == 1, text[0] < 0x80, !"\"\r\n".utf8.contains(text[0]) else { return nil }
      byte = text[0]
    }
  }

  var columns: TableColumns {
    .init(
      image: imageColumn, captions: captionColumns.map(DatasetSourceOptions.names), label: labelColumn, key: keyColumn)
  }
}
