import Dist
import Foundation
import Model
import Tensor

extension TeacherModel {
  /// What a cache of this teacher's embeddings of a corpus must be of.
  func cacheDescription(_ run: RunConfig, _ corpus: Corpus) throws -> CacheDescription {
    CacheDescription(
      teacher: CacheDescription.Teacher(
        path: path, sha256: sha256, config: String(decoding: try config.json, as: UTF8.self),
        vocabularySHA256: try SavedRun.sha256(of: vocabulary), width: config.embedding,
        precision: precision.used == .fp32 ? nil : precision.used.rawValue),
      corpus: CacheDescription.Source(corpus), seed: run.data.seed, views: run.image.isFixed ? 1 : run.data.views,
      image: input.image.cacheDescription)
  }
}

extension ImageOptions {
  /// Every option that changes a prepared picture, by its name in run files. What a central crop does not look at is
  /// left out, and so is the limit on sizes.
  fileprivate var cacheDescription: [String: String] {
    var values = [
      "size": "\(size)", "mean": "\(mean)", "std": "\(std)", "alpha": "\(alpha)", "exif": "\(exif)", "crop": "\(crop)",
      "color_jitter": [
        "brightness \(colorJitter.brightness)", "contrast \(colorJitter.contrast)",
        "saturation \(colorJitter.saturation)", "hue \(colorJitter.hue)", "probability \(colorJitter.probability)",
      ].joined(separator: ", "),
      "grayscale": "\(grayscale)",
    ]
    if crop == .random {
      values["scale"] = "[\(scale.lowerBound), \(scale.upperBound)]"
      values["ratio"] = "[\(ratio.lowerBound), \(ratio.upperBound)]"
      if scaledDCT { values["scaled_dct"] = "true" }
    }
    return values
  }
}

extension CacheConfig {
  /// The folder of one corpus.
  func folder(of corpus: Corpus) -> String {
    // A name is any text; it must not lead elsewhere.
    let name = corpus.name.replacing("/", with: "_")
    return "\(path)/\(name.hasPrefix(".") ? "_" + name : name)"
  }
}
