import Dist
import Settings

/// A teacher cache: embeddings that are computed once. The short form `cache: PATH` names its folder.
struct CacheConfig: Section {
  /// The folder; each corpus has one of its own in it.
  var path = ""
  /// How `kinship precompute` stores the numbers.
  var type = CacheType.fp32
  /// Samples in each of its files; `auto`: 16,384, fewer for corpora of less than a million pictures.
  var part: Int?

  mutating func fields(_ map: FieldMap) {
    map.required("path", &path, "the folder of the cache")
    map.field("type", &type)
    map.optional("part", &part, none: "auto")
  }

  static var expectation: String { "a folder, or a section (path, type, part)" }

  static func shorthandKey(_ text: String) -> String? { "path" }

  /// Samples in each part of the cache of a corpus: never a matter of how many ranks there are.
  func partSamples(of samples: Int) -> Int {
    let block = 64
    // Enough parts for some dozens of ranks to share, in whole blocks.
    return part ?? min(max((samples / 64 + block - 1) / block, 1) * block, 16_384)
  }
}

extension RunConfig {
  /// What is wrong with the teacher's cache, by the path of the key to change.
  func cacheMistakes(_ teacher: TeacherConfig, _ section: String) -> [(path: String, text: String)] {
    guard let cache = teacher.cache else { return [] }
    var found: [(path: String, text: String)] = []
    if cache.path.isEmpty { found.append(("\(section).cache.path", "expected a folder, found \"\"")) }
    if let part = cache.part, part < 1 {
      found.append(("\(section).cache.part", "expected at least 1, or auto, found \(part)"))
    }
    if data.views == 0, !image.isFixed {
      found.append(
        (
          "data.views",
          "0 (no crop is ever shown twice) leaves nothing to compute beforehand; with teacher.cache, set it to the "
            + "crops that each picture is to have, or image.crop to center"
        ))
    }
    return found
  }
}
