import Dist
import Foundation
import Model
import Settings
import Tensor
import TestSupport

/// The `losses` part of the golden set.
enum LossGoldenSet {
  static func file(_ name: String) -> URL { Fixture.golden.appending(path: "losses/\(name)") }

  struct Meta: Decodable {
    struct Case: Decodable {
      /// By the losses' names.
      let values: [String: Double]
    }
    let presets: [String: Preset]
    /// The cases: each is a batch with the losses on it, in a file of its name.
    let sets: [String: Case]
  }

  static func meta() throws -> Meta { try decode("meta.json") }

  /// The names of the cases.
  static func sets() throws -> [String] {
    try Fixture.required(meta().sets.keys.sorted(), "sets in losses/meta.json")
  }

  /// The names of a case's losses: those that `meta.json` lists, and those that the case's file has beside them.
  static func losses(of set: String, in file: SafetensorsFile) throws -> [String] {
    let stored = file.names.filter { $0.hasSuffix(".value") }.map { String($0.dropLast(".value".count)) }
    let names = Set(stored).union(try meta().sets[set]?.values.keys.map { $0 } ?? [])
    return try Fixture.required(names.sorted(), "losses for \(set) in losses/meta.json")
  }

  private static func decode<Value: Decodable>(_ name: String) throws -> Value {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(Value.self, from: Data(contentsOf: file(name)))
  }

  /// The golden names of the objective's own parameters.
  static let parameters = [
    ("gamma", "objective.cross_logit_scale"), ("visual_proj.weight", "objective.visual_proj.weight"),
    ("visual_proj.bias", "objective.visual_proj.bias"), ("text_proj.weight", "objective.text_proj.weight"),
    ("text_proj.bias", "objective.text_proj.bias"),
  ]

  static func scene<S: Scalar>(_ file: SafetensorsFile, _: S.Type) throws -> ObjectiveScene<S> {
    let teacher = try file.tensor("input.teacher_image", as: S.self)
    let student = try file.tensor("input.student_image", as: S.self)
    var scene = ObjectiveScene<S>(pairs: student.rows, student: student.columns, teacher: teacher.columns)
    scene.image = student
    scene.text = try file.tensor("input.student_text")
    scene.teacherImage = teacher
    scene.teacherText = try file.tensor("input.teacher_text")
    scene.logitScale = try file.tensor("input.logit_scale", as: Double.self)[0]
    scene.teacherLogitScale = try file.tensor("input.teacher_logit_scale", as: Double.self)[0]
    for (golden, name) in parameters where file.contains("input.\(golden)") {
      scene.parameters[name] = try file.tensor("input.\(golden)")
    }
    return scene
  }

  static let presetPrefix = "preset."

  /// Returns the objective that a golden loss stands for: a preset as `meta.json` defines it, or a term alone.
  static func options(_ name: String, _ meta: Meta) throws -> ObjectiveOptions {
    if name.hasPrefix(presetPrefix) {
      guard let preset = meta.presets[String(name.dropFirst(presetPrefix.count))] else {
        throw Fixture.Incomplete(description: "losses/meta.json does not define \(name)")
      }
      return try preset.options()
    }
    var options = ObjectiveOptions()
    options.clip = 0
    switch name {
    case "clip": options.clip = 1
    case "crd": options.crd = 1
    case "icl_raw": options.icl = 1
    case "icl_exp": (options.icl, options.iclScale) = (1, .exp)
    case "fd": options.fd = 1
    case "soft_ce": options.affinity = 1
    default: throw Fixture.Incomplete(description: "the golden set has the loss \(name), and no term has that name")
    }
    return options
  }

  /// A preset's definition: CLIP's loss and the weights of what is added to it, or affinity mimicking alone.
  struct Preset: Decodable {
    let fd: Double?
    let crd: Double?
    let icl: Double?
    let intra: Intra?
    let softCe: Double?
    let scaleBoth: Double?

    func options() throws -> ObjectiveOptions {
      var options = ObjectiveOptions()
      if let softCe { (options.clip, options.affinity) = (0, softCe) }
      (options.affinityScale, options.fixedLogitScale) = (scaleBoth, scaleBoth.map { Scheduled($0) })
      (options.fd, options.crd, options.icl) = (fd ?? 0, crd ?? 0, icl ?? 0)
      if let intra { (options.intra, options.intraOptions) = (1, try intra.options()) }
      return options
    }
  }

  /// The switches of an intra-modal term; one that is left out stays at its default.
  struct Intra: Decodable, CustomStringConvertible {
    let weighting: String?
    let weightGrad: Bool?
    let source: String?
    let divergence: String?
    let diagonal: String?
    let temperature: String?
    let tau: Double?
    let softmaxTemperature: Double?
    let image: Bool?
    let text: Bool?

    var description: String {
      [weighting, source, divergence, diagonal, temperature, weightGrad == false ? "without gradient" : nil]
        .compactMap { $0 }.joined(separator: " ")
    }

    func options() throws -> IntraOptions {
      func read<Word: RawRepresentable<String>>(_ text: String?, into option: inout Word) throws {
        guard let text else { return }
        guard let word = Word(rawValue: text) else {
          throw Fixture.Incomplete(description: "the golden set has \(text), which is no \(Word.self) here")
        }
        option = word
      }
      var options = IntraOptions()
      try read(weighting, into: &options.weighting)
      try read(source, into: &options.source)
      try read(divergence, into: &options.divergence)
      try read(diagonal, into: &options.diagonal)
      try read(temperature, into: &options.temperature)
      options.weightGradient = weightGrad ?? options.weightGradient
      options.tau = tau ?? options.tau
      options.softmaxTemperature = softmaxTemperature ?? options.softmaxTemperature
      if image == false { options.image = 0 }
      if text == false { options.text = 0 }
      return options
    }
  }

  /// The option table: the intra-modal terms by the index that files name them with.
  static func cases() throws -> [Int: Intra] {
    struct Line: Decodable {
      let index: Int
      let intra: Intra

      private enum CodingKeys: CodingKey { case index }

      init(from decoder: any Decoder) throws {
        index = try decoder.container(keyedBy: CodingKeys.self).decode(Int.self, forKey: .index)
        intra = try Intra(from: decoder)
      }
    }
    let lines: [Line] = try decode("intra_cases.json")
    return Dictionary(lines.map { ($0.index, $0.intra) }) { first, _ in first }
  }
}
