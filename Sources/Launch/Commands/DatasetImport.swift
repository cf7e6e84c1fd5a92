import ArgumentParser
import Dist
import Foundation
import Model

/// `kinship dataset import` turns tables, lists, image folders and tars into shards.
struct DatasetImport: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import", abstract: "Imports a table or list of images and captions, a folder of images, or tars.",
    discussion: """
      A table (CSV, TSV) has a header and one image per line; its paths are relative to its folder. A folder holds \
      images with their captions in text files beside them (fox.png, fox.txt: one caption per line), or sub-folders \
      that are classes: named by WordNet ids (ImageNet, -R, -Sketch), by numbers that are the labels (ImageNet-V2), or \
      numbered in the order of their names. Lists are COCO's captions_….json (captions in the file's order), \
      Karpathy's dataset_….json (with --split), Flickr30k's results_20130124.token or results.csv, and ImageNet's \
      LOC_val_solution.csv.

      Tars have webdataset's form: adjacent files that share a name up to the first dot are one sample (0017.jpg, \
      0017.txt, 0017.json with a caption, 0017.cls with a label). Name several with braces in quotes \
      ('cc3m-{00000..00331}.tar', '{train,val}-{0..9}.tar'), by their folder, or one by one. From the folder that \
      img2dataset leaves, all tars are imported, or all images; a shard that it has not finished is an error.

      Images (JPEG, PNG, WebP) are stored byte for byte. One that is missing or cannot be decoded is left out, \
      counted, and listed with the reason in rejected.tsv beside the index, corpus.json.

      Examples:

        kinship dataset import images.tsv --output data/mine
        kinship dataset import 'cc3m-{00000..00331}.tar' --output data/cc3m
      """)

  @OptionGroup var form: DatasetSourceOptions

  @OptionGroup(title: "Tables") var table: DatasetTableOptions

  @Argument(help: "The table, the list, the folder or the tars.") var sources: [String]

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

  @Flag(help: "Replaces the dataset that the output folder holds.") var overwrite = false

  func validate() throws {
    for (name, value) in [
      ("max-pixels", maxPixels), ("shard-samples", shardSamples), ("shard-size", shardSize), ("workers", workers ?? 1),
    ] where value < 1 || value > 1 << 40 {
      throw ValidationError("--\(name) must be from 1 to \(1 << 40), found \(value)")
    }
  }

  func run() throws {
    // A dataset is written by one process; the others of a job have nothing to do.
    guard Machine.isFirstRank else { return }
    let folder = (output as NSString).standardizingPath
    let name = name ?? URL(filePath: folder).lastPathComponent
    let importer = DatasetImporter(
      name: name, folder: folder, limits: .init(samples: shardSamples, bytes: shardSize << 20), maxPixels: maxPixels,
      workers: workers ?? Cores.current.bound.count, overwrite: overwrite)
    let outcome = try importer.run(try form.choice(table).open(sources, dataset: name))
    print(outcome.summary(name))
  }
}
