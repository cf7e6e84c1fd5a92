import Foundation
import Model
import Tensor

/// open_clip's two towers written as plain loops in Double, with padded captions. It shares only the parameters' names
/// with the towers.
struct PlainCLIP {
  typealias Matrix = [[Double]]

  let config: CLIPConfig
  /// Every parameter under its name, row-major.
  let parameters: [String: [Double]]
  /// Pruning masks by the name of their vector, each at its place among the activations; empty: none.
  var masks: [String: [Double]] = [:]

  private func vector(_ name: String) -> [Double] {
    guard let numbers = parameters[name] else { fatalError("no parameter \(name)") }
    return numbers
  }

  private func matrix(_ name: String, columns: Int) -> Matrix {
    let numbers = vector(name)
    return stride(from: 0, to: numbers.count, by: columns).map { Array(numbers[$0..<$0 + columns]) }
  }

  /// Returns the raw feature of one image, given as [channel][row][column] in one array. Tokens that are not `kept` are
  /// dropped where open_clip's PatchDropout drops them.
  func feature(ofImage pixels: [Double], keeping kept: [Int]? = nil) -> [Double] {
    let v = config.vision
    let (size, p, w) = (v.imageSize, v.patchSize, v.width)
    let kernel = vector("visual.conv1.weight")
    var tokens: Matrix = [vector("visual.class_embedding")]
    for row in 0..<v.grid {
      for column in 0..<v.grid {
        tokens.append(
          (0..<w).map { output in
            var sum = 0.0
            for channel in 0..<3 {
              for y in 0..<p {
                for x in 0..<p {
                  sum +=
                    kernel[((output * 3 + channel) * p + y) * p + x]
                    * pixels[(channel * size + row * p + y) * size + column * p + x]
                }
              }
            }
            return sum
          })
      }
    }
    var x = add(tokens, matrix("visual.positional_embedding", columns: w))
    if let kept { x = kept.map { x[$0] } }
    x = masked(x, "visual.hidden").map { norm($0, "visual.ln_pre") }
    for layer in 0..<v.layers {
      x = block(x, "visual.transformer.resblocks.\(layer)", heads: v.heads, hidden: v.hidden, causal: false)
    }
    return multiply([norm(x[0], "visual.ln_post")], matrix("visual.proj", columns: config.embedding))[0]
  }

  /// Returns the raw feature of one caption, which it pads with 0 to the context.
  func feature(ofText tokens: [Int32]) -> [Double] {
    let t = config.text
    let padded = tokens.map(Int.init) + [Int](repeating: 0, count: t.contextLength - tokens.count)
    let table = matrix("token_embedding.weight", columns: t.width)
    var x = masked(add(padded.map { table[$0] }, matrix("positional_embedding", columns: t.width)), "hidden")
    for layer in 0..<t.layers {
      x = block(x, "transformer.resblocks.\(layer)", heads: t.heads, hidden: t.hidden, causal: true)
    }
    var end = 0
    for (index, token) in padded.enumerated() where token > padded[end] { end = index }
    return multiply([norm(x[end], "ln_final")], matrix("text_projection", columns: config.embedding))[0]
  }

  private func block(_ x: Matrix, _ name: String, heads: Int, hidden: Int, causal: Bool) -> Matrix {
    let w = x[0].count
    let (prefix, layer) = (name.hasPrefix("visual.") ? "visual." : "", name.split(separator: ".").last ?? "")
    let qkv = linear(
      x.map { norm($0, "\(name).ln_1") }, "\(name).attn.in_proj_weight", "\(name).attn.in_proj_bias", columns: w)
    let d = w / heads
    var mixed = x.map { _ in [Double](repeating: 0, count: w) }
    for head in 0..<heads {
      for i in x.indices {
        let seen = causal ? 0...i : 0...x.count - 1
        let scores = seen.map { j in
          (0..<d).reduce(0.0) { $0 + qkv[i][head * d + $1] * qkv[j][w + head * d + $1] } / Double(d).squareRoot()
        }
        let exponentials = scores.map { exp($0 - (scores.max() ?? 0)) }
        let total = exponentials.reduce(0, +)
        for j in seen {
          for c in 0..<d { mixed[i][head * d + c] += exponentials[j] / total * qkv[j][2 * w + head * d + c] }
        }
      }
    }
    mixed = masked(mixed, "\(prefix)heads.\(layer)")
    let attended = linear(mixed, "\(name).attn.out_proj.weight", "\(name).attn.out_proj.bias", columns: w)
    let middle = add(x, masked(attended, "\(prefix)hidden"))
    let expanded = linear(
      middle.map { norm($0, "\(name).ln_2") }, "\(name).mlp.c_fc.weight", "\(name).mlp.c_fc.bias", columns: w)
    let active = masked(expanded.map { $0.map(activation) }, "\(prefix)units.\(layer)")
    let contracted = linear(active, "\(name).mlp.c_proj.weight", "\(name).mlp.c_proj.bias", columns: hidden)
    return add(middle, masked(contracted, "\(prefix)hidden"))
  }

  /// Multiplies each column by its mask; the mask of a head applies to all columns of the head.
  private func masked(_ x: Matrix, _ name: String) -> Matrix {
    guard let mask = masks[name] else { return x }
    return x.map { row in row.indices.map { row[$0] * mask[$0 * mask.count / row.count] } }
  }

  private func activation(_ x: Double) -> Double {
    switch config.activation {
    case .gelu: x * 0.5 * (1 + erf(x / 2.0.squareRoot()))
    case .quickGELU: x / (1 + exp(-1.702 * x))
    }
  }

  private func norm(_ x: [Double], _ name: String) -> [Double] {
    let (weight, bias) = (vector("\(name).weight"), vector("\(name).bias"))
    let mask = masks[name.hasPrefix("visual.") ? "visual.hidden" : "hidden"]
    let alive = x.indices.filter { mask?[$0] != 0 }
    let mean = alive.reduce(0) { $0 + x[$1] } / Double(alive.count)
    let variance = alive.reduce(0) { $0 + (x[$1] - mean) * (x[$1] - mean) } / Double(alive.count)
    return x.indices.map {
      mask?[$0] == 0 ? 0 : (x[$0] - mean) / (variance + 1e-5).squareRoot() * weight[$0] + bias[$0]
    }
  }

  private func linear(_ x: Matrix, _ weight: String, _ bias: String, columns: Int) -> Matrix {
    let (rows, shift) = (matrix(weight, columns: columns), vector(bias))
    return x.map { x in
      rows.indices.map { output in zip(x, rows[output]).reduce(shift[output]) { $0 + $1.0 * $1.1 } }
    }
  }

  private func multiply(_ a: Matrix, _ b: Matrix) -> Matrix {
    a.map { row in b[0].indices.map { column in row.indices.reduce(0) { $0 + row[$1] * b[$1][column] } } }
  }

  private func add(_ a: Matrix, _ b: Matrix) -> Matrix { zip(a, b).map { zip($0, $1).map { $0 + $1 } } }
}
