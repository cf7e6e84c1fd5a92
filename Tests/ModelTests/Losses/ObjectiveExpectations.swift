import Foundation
import Model
import Tensor
import TestSupport
import Testing

/// One outcome's numbers are another's.
func expect<S>(
  _ found: ObjectiveScene<S>.Outcome, _ expected: ObjectiveScene<S>.Outcome, _ tolerance: Double, _ name: String,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  let (a, b) = (found.parts, expected.parts)
  #expect(a.map(\.name) == b.map(\.name), sourceLocation: sourceLocation)
  // Sums that cancel are held against the size of what they are sums of.
  let size = b.flatMap(\.numbers).reduce(0) { max($0, abs($1)) }
  for (part, wanted) in zip(a, b) {
    let deviation = Deviation(part.numbers, from: wanted.numbers)
    #expect(
      deviation.relative <= tolerance || deviation.absolute <= tolerance * 0.01 * size,
      "\(name), \(part.name): \(deviation)", sourceLocation: sourceLocation)
  }
}

/// Finite differences of the total are its gradients.
func expectDifferences(
  _ base: ObjectiveScene<Double>, _ name: String, _ options: ObjectiveOptions
) throws {
  var scene = base
  let scale = Tensor<Double>(Shape(), [scene.logitScale])
  let declared = try scene.run(options).own.keys.sorted()
  var gradients = ["image": Tensor<Double>(scene.image.shape), "text": Tensor<Double>(scene.text.shape)]
  gradients["logit scale"] = Tensor(Shape())
  for key in declared { gradients[key] = Tensor(try #require(scene.parameters[key]).shape) }
  let values = ["image": scene.image, "text": scene.text, "logit scale": scale]
    .merging(scene.parameters.filter { declared.contains($0.key) }) { first, _ in first }
  // A scale that is detached has differences, and no gradient by intent.
  let isDetached = options.intra != 0 && options.intraOptions.temperature == .ownDetached
  let variables = try values.keys.sorted().filter { !(isDetached && $0 == "logit scale") }.map { key in
    GradientCheck.Variable(
      key, try #require(values[key]), gradient: try #require(gradients[key]), accumulates: false)
  }
  let report = try GradientCheck(variables, roundings: 512).run {
    scene.logitScale = scale[0]
    return [try scene.run(options).total]
  } backward: { weights in
    scene.logitScale = scale[0]
    let found = try scene.run(options)
    let all = ["image": found.image, "text": found.text, "logit scale": [found.logitScale]]
      .merging(found.own) { first, _ in first }
    for (key, numbers) in all {
      for (index, number) in numbers.enumerated() { gradients[key]?[index] = weights[0] * number }
    }
  }
  // A scale that a term does not look at has no gradient, nor has the text of a term of images.
  #expect(report.failures == 0 && report.count > 0, "\(name): \(report)")
  #expect(report.blind.allSatisfy { mayBeFlat($0, options) }, "\(name): \(report)")
}

/// Whether a term does not look at a variable.
private func mayBeFlat(_ variable: String, _ options: ObjectiveOptions) -> Bool {
  switch variable {
  case "logit scale":
    return [options.clip, options.crd, options.gd, options.siglip].allSatisfy { $0 == 0 }
      && (options.affinity == 0 || options.affinityScale != nil)
      && (options.intra == 0 || options.intraOptions.temperature != .ownScales)
  case "text": return options == .intra { $0.text = 0 }
  case "image": return options.intra != 0 && options.intraOptions.image == 0
  default: return false
  }
}
