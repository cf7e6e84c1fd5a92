import ArgumentParser
import Dist
import Foundation
import Model

/// `kinship corpus import`: tables, lists, picture folders and tars to shards.
struct CorpusImport: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import", abstract: "Imports a table or list of pictures and captions, a folder of pictures, or tars.",
    discussion: """
      A table (CSV, TSV) has a header and one picture a line; paths in it are relative to its folder. A folder holds \
      pictures with their captions in text files beside them (fox.png, fox.txt: a caption a line), or sub-folders that \
      are classes: named by WordNet ids (ImageNet, -R, -Sketch), by numbers that are the labels (ImageNet-V2), or \
      numbered in the order of their names. Lists are COCO's captions_….json (captions in the file's order), \
      Karpathy's dataset_….json (with --split), Flickr30k's results_20130124.token or results.csv, and ImageNet's \
      LOC_val_solution.csv.

      Tars are webdataset's: files with one name up to the first dot, side by side, are a sample (0017.jpg, 0017.txt, \
      0017.json with a caption, 0017.cls with a label). Several are named by braces in quotes \
      ('cc3m-{00000..00331}.tar', '{train,val}-{0..9}.tar'), by a folder, or one by one. Of the folder that \
      img2dataset leaves, all tars are taken, or all pictures; a shard that it has not finished is an error.

      Pictures (JPEG, PNG, WebP) are stored byte for byte. One that is missing or cannot be decoded is left out, \
      counted, and listed with the reason in rejected.tsv beside the index, corpus.json.
      """)

  @OptionGroup var form: CorpusSourceOptions

  @OptionGroup(title: "Tables") var table: CorpusTableOptions

  @Argument(help: "The table, the list, the folder or the tars.") var sources: [String]

  @Option(help: ArgumentHelp("The folder for the corpus: new, or empty.", valueName: "folder")) var output: String

  @Option(
    help: """
      The corpus's name, part of every sample's identity: crops and the choice of captions depend on it. Default: the \
      output folder's name.
      """)
  var name: String?

  @Option(help: "Larger pictures are refused by their header, before they are decoded.")
  var maxPixels = ImageDecoder.defaultMaxPixels

  @Option(help: "Samples a shard holds at most.") var shardSamples = 16_384

  @Option(help: "MiB of a shard at most, but for the last picture.") var shardSize = 256

  @Option(help: "Threads that read and decode. Default: one for each core.") var workers: Int?

  @Flag(help: "Replaces the corpus that the output folder holds.") var overwrite = false

  func validate() throws {
    for (name, value) in [
      ("max-pixels", maxPixels), ("shard-samples", shardSamples), ("shard-size", shardSize), ("workers", workers ?? 1),
    ] where value < 1 || value > 1 << 40 {
      throw ValidationError("--\(name) must be from 1 to \(1 << 40), found \(value)")
    }
  }

  func run() throws {
    // A corpus is written by one process; the others of a job have nothing to do.
    guard Machine.isFirstRank else { return }
    let folder = (output as NSString).standardizingPath
    let name = name ?? URL(filePath: folder).lastPathComponent
    let importer = CorpusImporter(
      name: name, folder: folder, limits: .init(samples: shardSamples, bytes: shardSize << 20), maxPixels: maxPixels,
      workers: workers ?? Cores.current.bound.count, overwrite: overwrite)
    let outcome = try importer.run(try form.choice(table).open(sources, corpus: name))
    print(outcome.summary(name))
  }
}
