import Dist
import Foundation
import Model

/// The run as its checkpoints store it: enough to resume it, and to use its model without the run file.
struct SavedRun: Codable {
  /// The key of this description in the metadata of files that are made from a checkpoint.
  static let key = "kinship_run"

  /// The resolved run file.
  var run: String
  /// The model's sizes in open_clip's JSON.
  var model: String
  /// The preparation of images.
  var image: ImageOptions
  /// The vocabulary's path in the run file, and its checksum.
  var vocabulary: String
  var vocabularySHA256: String
  /// The run's teachers; nil without a teacher.
  var teacher: SavedTeacher?
  /// The source of the initial weights; nil if all of them were drawn at random.
  var start: SavedStart?

  init(_ run: RunConfig, _ config: CLIPConfig, teacher: SavedTeacher?, start: SavedStart?) throws {
    self.run = run.yaml
    model = String(decoding: try config.json, as: UTF8.self)
    image = run.image.sized(config.vision.imageSize)
    vocabulary = run.vocabulary
    vocabularySHA256 = try SHA256.ofFile(run.vocabulary)
    self.teacher = teacher
    self.start = start
  }

  /// Reads the run of a checkpoint.
  init(_ checkpoint: Checkpoint) throws {
    try self.init(json: checkpoint.manifest.record.run, in: checkpoint.folder)
  }

  /// Reads the run from the metadata of a file that was made from a checkpoint; nil if the metadata has none.
  init?(in file: any NamedTensors) throws {
    guard let json = file.metadata[Self.key] else { return nil }
    try self.init(json: json, in: file.path)
  }

  private init(json: String, in path: String) throws {
    do {
      self = try JSONDecoder().decode(SavedRun.self, from: Data(json.utf8))
    } catch {
      throw UserError(path, "its description of the run cannot be understood: \(error)")
    }
  }

  /// The text of `CheckpointRecord.run`.
  var text: String {
    get throws {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
  }

  /// The scalars of the run file by their dotted paths; empty if the run file cannot be parsed.
  var settings: [String: String] { RunFolder.settings(run) ?? [:] }

  /// The run's name.
  var name: String { settings["name"] ?? "" }
}

/// A run's teachers as its checkpoints store them.
struct SavedTeacher: Codable, Equatable {
  /// The path of the first teacher's weights in the run file, and their checksum.
  var path: String
  var sha256: String
  /// The further teachers of an ensemble.
  var ensemble: [SavedTeacher]?

  /// The checksums of the weights of all teachers.
  var weights: [String] { [sha256] + (ensemble ?? []).map(\.sha256) }

  var text: String {
    ([self] + (ensemble ?? [])).map { "\($0.path) (SHA-256 \($0.sha256))" }.joined(separator: " with ")
  }
}

/// The source of a run's initial weights as its checkpoints store it.
struct SavedStart: Codable, Equatable {
  /// The key under `init` that names the source.
  var key: String
  /// The source's path in the run file.
  var path: String
  /// The checksum of the file of weights, of the list of its shards' checksums, or of a checkpoint's manifest.
  var sha256: String
}
