import Dist
import Foundation
import Model
import Tensor
import TestSupport

@testable import Launch

/// The sets of the paper's evaluation, small, each in the layout in which it is public; and a model to evaluate.
struct PaperScene {
  /// The model and its vocabulary; its own dataset plays no part.
  let evaluation: EvaluationScene
  var folder: TemporaryFolder { evaluation.folder }

  /// A thousand names, as ImageNet has.
  static let classes = (0..<1000).map { index in
    [index / 100, index / 10 % 10, index % 10].map { EvaluationScene.words[$0] }.joined(separator: " ")
  }
  static let templates = ["{}", "old {} new"]
  /// Classes of which ImageNet-R has images.
  static let rendered = [2, 17, 256, 512, 700, 999]

  struct Set {
    var name: String
    /// What to import, with which options.
    var arguments: [String]
  }

  let sets: [Set]

  init() throws {
    evaluation = try EvaluationScene(count: 20)
    let folder = evaluation.folder
    let ids = TestIDs.all
    var count: UInt64 = 0
    /// Writes an image of its own; what it holds is PNG, whatever it is called, as some of ImageNet's are.
    func image(_ name: String) throws {
      count += 1
      var random = KeyedRandom(seed: 11, purpose: "paper", count)
      let (width, height) = (random.below(9) + 4, random.below(9) + 4)
      let rgb = (0..<3 * width * height).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      try folder.write("public/" + name, PNGImage.encode(width: width, height: height, rgb: rgb))
    }
    func caption(_ key: Int) -> String {
      var random = KeyedRandom(seed: 12, purpose: "captions", UInt64(key))
      return (0..<random.below(4) + 1).map { _ in EvaluationScene.words[random.below(EvaluationScene.words.count)] }
        .joined(separator: " ")
    }
    try folder.write("public/LOC_synset_mapping.txt", ids.map { "\($0) a name, another\n" }.joined().utf8)
    try folder.write("classes.txt", Self.classes.joined(separator: "\n").utf8)
    try folder.write("templates.txt", Self.templates.joined(separator: "\n").utf8)

    var solution = "ImageId,PredictionString\n"
    for index in 0..<70 {
      try image("ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_000000\(index + 10).JPEG")
      solution += "ILSVRC2012_val_000000\(index + 10),\(ids[index * 14]) 1 2 3 4 \n"
    }
    try folder.write("public/LOC_val_solution.csv", solution.utf8)
    for label in 0..<12 { for index in 0..<3 { try image("v2/\(label)/\(index)f.jpeg") } }
    for label in Self.rendered { for kind in ["art", "toy"] { try image("imagenet-r/\(ids[label])/\(kind)_0.jpg") } }
    for label in stride(from: 5, to: 1000, by: 40) { try image("sketch/\(ids[label])/sketch_1.JPEG") }

    var list = "title\tfilepath\n"
    for index in 0..<40 {
      try image("val/\(index / 10)/\(index).jpg")
      list += "\(caption(index % 30))\tval/\(index / 10)/\(index).jpg\n"
    }
    try folder.write("public/cc3m_val.csv", list.utf8)

    /// One in three images is of another split; some captions are other images' too.
    func splits(_ dataset: String, _ path: (Int) -> (folder: String?, file: String)) throws {
      let images = try (0..<90).map { index in
        let (place, file) = path(index)
        let test = index % 3 != 1
        if test { try image((place ?? "flickr30k_images") + "/" + file) }
        let sentences = (0..<5).map { "{\"tokens\": [\"a\"], \"raw\": \"\(caption(index % 50 * 5 + $0))\"}" }
        let filepath = place.map { "\"filepath\": \"\($0)\", " } ?? ""
        return "{\(filepath)\"filename\": \"\(file)\", \"imgid\": \(index), \"split\": \"\(test ? "test" : "train")\","
          + " \"sentences\": [\(sentences.joined(separator: ", "))]}"
      }
      try folder.write(
        "public/dataset_\(dataset).json",
        "{\"images\": [\(images.joined(separator: ",\n"))], \"dataset\": \"\(dataset)\"}".utf8)
    }
    try splits("coco") { ("val2014", "COCO_val2014_\($0).jpg") }
    try splits("flickr30k") { (nil, "\($0).jpg") }

    let wnids = ["--wnids", folder.path("public/LOC_synset_mapping.txt")]
    sets = [
      Set(name: "imagenet", arguments: [folder.path("public/LOC_val_solution.csv")] + wnids),
      Set(name: "imagenet-v2", arguments: [folder.path("public/v2")]),
      Set(name: "imagenet-r", arguments: [folder.path("public/imagenet-r")] + wnids),
      Set(name: "imagenet-sketch", arguments: [folder.path("public/sketch")] + wnids),
      Set(name: "cc3m", arguments: [folder.path("public/cc3m_val.csv")]),
      Set(name: "coco", arguments: [folder.path("public/dataset_coco.json"), "--split", "test"]),
      Set(name: "flickr", arguments: [folder.path("public/dataset_flickr30k.json"), "--split", "test"]),
    ]
  }

  func dataset(_ name: String) -> String { folder.path("data/\(name)") }

  /// Imports what the sets of these names are.
  func importSets(_ names: [String]) async throws {
    for set in sets where names.contains(set.name) {
      let run = try await MPIRun.kinship(
        ["dataset", "import"] + set.arguments + ["--output", dataset(set.name)], ranks: nil)
      guard run.status == 0 else { throw UserError(set.name, "\(run)") }
    }
  }
}
