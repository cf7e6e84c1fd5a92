import Dist
import Foundation
import Model

/// A model that the run file asks for and that cannot be built.
struct ModelError: ExitCoded, CustomStringConvertible {
  let description: String
  var status: ExitStatus = .badData
}

extension ModelConfig {
  /// The model's sizes as they are written.
  func readSizes() throws -> CLIPConfig {
    do {
      return try resolved()
    } catch let error as ConfigError {
      throw ModelError(description: "model: \(error)")
    } catch {
      throw ModelError(
        description: "model: cannot read \(file ?? ""): \((error as NSError).localizedFailureReason ?? "\(error)")",
        status: .inputOutput)
    }
  }

  /// The model's sizes; a vocabulary size of 0 becomes that of the run's vocabulary, which is in the file `path`.
  func resolved(for vocabulary: Vocabulary, path: String) throws -> CLIPConfig {
    var config = try readSizes()
    if config.text.vocabularySize == 0 { config.text.vocabularySize = vocabulary.size }
    guard config.text.vocabularySize == vocabulary.size else {
      throw ModelError(
        description:
          "model: vocab_size is \(config.text.vocabularySize) and the vocabulary \(path) has \(vocabulary.size) "
          + "tokens; set text_cfg.vocab_size to \(vocabulary.size), or to 0 for as many as the vocabulary has")
    }
    return config
  }
}

extension RunConfig {
  /// Where batch norm takes the statistics of each rank's own images, every rank must have some.
  func checkStatistics(of config: CLIPConfig, ranks: Int) throws {
    if config.vision.stages == nil, model.syncBatchNorm {
      throw ModelError(
        description: "model: sync_bn is true, and a vision transformer has no batch norm; leave sync_bn out")
    }
    if config.vision.stages != nil, !model.syncBatchNorm, batch.global < ranks {
      throw ModelError(
        description: "batch.global is \(batch.global) and there are \(ranks) ranks: batch norm needs images on each "
          + "of them; raise batch.global to \(ranks) or more, or set model.sync_bn to true")
    }
  }
}
