import Dist
import Foundation
import Model
import Tensor
import TestSupport

/// The `losses` part of the golden set.
enum LossGoldenSet {
  static func file(_ name: String) -> URL { Fixture.golden.appending(path: "losses/\(name)") }

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

  /// The objective that a golden loss stands for; nil for a name that is not known.
  static func options(_ name: String) -> ObjectiveOptions? {
    if name.hasPrefix("preset.") { return ObjectivePreset(rawValue: String(name.dropFirst("preset.".count)))?.options }
    var options = ObjectiveOptions()
    options.clip = 0
    switch name {
    case "clip": options.clip = 1
    case "crd": options.crd = 1
    case "icl_raw": options.icl = 1
    case "icl_exp": (options.icl, options.iclScale) = (1, .exp)
    case "fd": options.fd = 1
    case "soft_ce": options.affinity = 1
    default: return nil
    }
    return options
  }

  /// A line of the option table.
  struct Case: Decodable, CustomStringConvertible {
    let index: Int
    let weighting: String
    let weightGrad: Bool
    let source: String
    let divergence: String
    let diagonal: String
    let temperature: String
    let tau: Double
    let softmaxTemperature: Double

    var description: String {
      "\(weighting) \(source) \(divergence) \(diagonal) \(temperature)\(weightGrad ? "" : " without gradient")"
    }

    var options: ObjectiveOptions {
      .intra { options in
        func word<Word: RawRepresentable<String>>(_ text: String) -> Word {
          guard let word = Word(rawValue: text) else { fatalError("\(text) is no \(Word.self)") }
          return word
        }
        options.weighting = word(weighting)
        options.weightGradient = weightGrad
        options.source = word(source)
        options.divergence = word(divergence)
        options.diagonal = word(diagonal)
        options.temperature = word(temperature)
        options.tau = tau
        options.softmaxTemperature = softmaxTemperature
      }
    }
  }

  static func cases() throws -> [Case] {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode([Case].self, from: Data(contentsOf: file("intra_cases.json")))
  }
}
