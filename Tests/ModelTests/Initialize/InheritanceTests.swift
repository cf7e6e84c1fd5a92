import Model
import Tensor
import TestSupport
import Testing

/// Compares a student's tensors with the source's, element by element by their indices.
@Suite struct InheritanceTests {
  private static let source: CLIPConfig = {
    var config = CLIPConfig(
      embedding: 9, vision: VisionConfig(imageSize: 12, patchSize: 4, width: 12, layers: 5, headWidth: 3),
      text: TextConfig(contextLength: 7, vocabularySize: 11, width: 8, heads: 4, layers: 4))
    config.vision.mlpRatio = 3
    return config
  }()

  private static let student: CLIPConfig = {
    var config = CLIPConfig(
      embedding: 5, vision: VisionConfig(imageSize: 12, patchSize: 4, width: 6, layers: 2, headWidth: 3),
      text: TextConfig(contextLength: 6, vocabularySize: 11, width: 6, heads: 3, layers: 4))
    config.vision.mlpRatio = 2
    return config
  }()

  private static func random(_ config: CLIPConfig, seed: UInt64) -> CLIP<Double> {
    let model = CLIP<Double>(config)
    model.initialize(seed: seed)
    // Norms and biases start as constants, which would hide an error.
    var random = KeyedRandom(seed: seed, purpose: "values")
    for index in 0..<model.parameters.count { model.parameters.values[index] += random.uniform(from: -1, to: 1) }
    return model
  }

  private static func value(_ model: CLIP<Double>, _ name: String) throws -> Tensor<Double> {
    model.parameters.value(of: try #require(model.parameters.entry(named: name), "\(name)"))
  }

  /// Returns element (i, j, …) of a tensor.
  private static func element(_ tensor: Tensor<Double>, _ index: [Int]) -> Double {
    tensor[zip(index, tensor.shape.array).reduce(0) { $0 * $1.1 + $1.0 }]
  }

  @Test func everyTensorIsTheLeadingPartOfItsSource() throws {
    let (source, student) = (Self.random(Self.source, seed: 1), Self.random(Self.student, seed: 2))
    let plan = try Inheritance(from: Self.source, to: Self.student)
    plan.apply(from: source.parameters, to: student.parameters)
    var compared = 0
    for entry in student.parameters.entries {
      var name = entry.name
      for layer in 0..<2 {
        // ⌊5 / 2⌋ = 2: blocks 0 and 2.
        name = name.replacing(
          "visual.transformer.resblocks.\(layer).", with: "visual.transformer.resblocks.\(2 * layer)!.")
      }
      let (cut, whole) = (
        student.parameters.value(of: entry), try Self.value(source, name.replacing("!", with: ""))
      )
      let sizes = entry.shape.array
      for flat in 0..<cut.count {
        var (index, rest) = ([Int](), flat)
        for size in sizes.reversed() {
          index.insert(rest % size, at: 0)
          rest /= size
        }
        var from = index
        if name.contains("in_proj") {
          // q, k and v are the thirds of the axis, whose lengths differ between student and source.
          let (third, sourceThird) = (sizes[0] / 3, whole.shape[0] / 3)
          from[0] = index[0] / third * sourceThird + index[0] % third
        }
        #expect(cut[flat] == Self.element(whole, from), "\(entry.name) \(index)")
        compared += 1
      }
    }
    #expect(compared == student.parameters.parameterCount)
    #expect(
      plan.stacks.map(\.name) == ["transformer.resblocks", "visual.transformer.resblocks"]
        && plan.stacks.map(\.blocks) == [[0, 1, 2, 3], [0, 2]] && plan.stacks.map(\.sourceCount) == [4, 5])
  }

  @Test(arguments: [
    (12, 9, Array(0..<9)), (12, 6, [0, 2, 4, 6, 8, 10]), (12, 5, [0, 2, 4, 6, 8]), (7, 7, Array(0..<7)),
  ])
  func depth(source layers: Int, student studentLayers: Int, blocks: [Int]) throws {
    var (source, student) = (Self.source, Self.source)
    (source.text.layers, student.text.layers) = (layers, studentLayers)
    #expect(try Inheritance(from: source, to: student, towers: .text).stacks.map(\.blocks) == [blocks])
  }

  @Test func theSameSizesGiveTheSameModel() throws {
    let (source, student) = (Self.random(Self.source, seed: 1), Self.random(Self.source, seed: 2))
    try Inheritance(from: Self.source, to: Self.source).apply(from: source.parameters, to: student.parameters)
    for entry in source.parameters.entries {
      #expect(source.parameters.value(of: entry).array == student.parameters.value(of: entry).array)
    }
  }

  @Test func oneTowerAlone() throws {
    for towers in [Towers.image, .text] {
      let (source, student) = (Self.random(Self.source, seed: 1), Self.random(Self.student, seed: 2))
      let before = student.parameters.values.array
      let plan = try Inheritance(from: Self.source, to: Self.student, towers: towers)
      plan.apply(from: source.parameters, to: student.parameters)
      for entry in student.parameters.entries {
        let changed = student.parameters.value(of: entry).array != Array(before[entry.range])
        #expect(changed == (entry.name != "logit_scale" && entry.name.hasPrefix("visual.") == (towers == .image)))
      }
    }
  }

  struct Obstacle: Sendable, CustomTestStringConvertible {
    var name: String
    var change: @Sendable (inout CLIPConfig) -> Void
    /// The number of all problems, and texts that their messages contain.
    var tensors: Int
    var words: [String]
    var testDescription: String { name }
  }

  static let obstacles = [
    Obstacle(
      name: "another patch", change: { $0.vision.patchSize = 3 }, tensors: 2,
      words: [
        "visual.conv1.weight [6, 3, 3, 3] from [12, 3, 4, 4]: a kernel of 3×3 cannot be cut from one of 4×4; set "
          + "vision_cfg.patch_size to 4, or init.towers to text",
        "visual.positional_embedding [17, 6] from [10, 12]: the positions belong to different grids",
      ]),
    Obstacle(
      name: "another grid", change: { $0.vision.imageSize = 8 }, tensors: 1,
      words: ["visual.positional_embedding [5, 6] from [10, 12]: the positions belong to different grids"]),
    Obstacle(
      name: "other heads", change: { $0.vision.headWidth = 6 }, tensors: 6,
      words: [
        "visual.transformer.resblocks.1.attn.out_proj.weight [6, 6] from [12, 12]: heads of width 6 cannot be cut from "
          + "heads of width 3; set vision_cfg.head_width to 3"
      ]),
    Obstacle(
      name: "other heads of text", change: { $0.text.heads = 2 }, tensors: 12,
      words: ["heads of width 3 cannot be cut from heads of width 2; set text_cfg.heads to text_cfg.width / 2"]),
    Obstacle(
      name: "a wider tower", change: { ($0.text.width, $0.text.heads) = (10, 5) }, tensors: 4 * 12 + 5,
      words: [
        "transformer.resblocks.3.mlp.c_fc.weight [40, 10] from [32, 8]: 40 exceeds the source's 32; make text_cfg no "
          + "wider than the source"
      ]),
    Obstacle(
      name: "a deeper tower", change: { $0.vision.layers = 6 }, tensors: 1,
      words: [
        "visual.transformer.resblocks: the student's 6 blocks cannot come from the source's 5; make the student no "
          + "deeper"
      ]),
    Obstacle(
      name: "more words", change: { $0.text.vocabularySize = 10 }, tensors: 1,
      words: ["token_embedding.weight [10, 6] from [11, 8]: the vocabularies differ"]),
    Obstacle(
      name: "a wider embedding", change: { $0.embedding = 10 }, tensors: 2,
      words: ["visual.proj [6, 10] from [12, 9]: 10 exceeds the source's 9", "embed_dim no larger"]),
    Obstacle(
      name: "a longer context", change: { $0.text.contextLength = 8 }, tensors: 1,
      words: ["positional_embedding [8, 6] from [7, 8]: 8 exceeds the source's 7"]),
  ]

  @Test(arguments: obstacles) func whatCannotBeCut(_ obstacle: Obstacle) throws {
    var student = Self.student
    obstacle.change(&student)
    let error = try #require(throws: InheritanceError.self) { try Inheritance(from: Self.source, to: student) }
    #expect(error.problems.count == obstacle.tensors, "\(error)")
    for words in obstacle.words { #expect("\(error)".contains(words), "\(error)") }
  }

  /// A problem in one tower does not keep the other tower from being cut.
  @Test func aPatchOf16From14() throws {
    let (source, student) = (try CLIPConfig(preset: "ViT-L-14"), try CLIPConfig(preset: "ViT-T-16"))
    let error = try #require(throws: InheritanceError.self) { try Inheritance(from: source, to: student) }
    #expect(error.problems.count == 2 && error.problems[1].hasPrefix("visual.conv1.weight [192, 3, 16, 16] from"))
    #expect(try Inheritance(from: source, to: student, towers: .text).cuts.count == 149)
    #expect(try Inheritance(from: CLIPConfig(preset: "ViT-B-16"), to: student).cuts.count == 302)
  }

  /// The stages of a ResNet are stacks, and running statistics are cut like parameters.
  @Test func stagesOfAResNet() throws {
    let text = TextConfig(contextLength: 5, vocabularySize: 7, width: 4, heads: 2, layers: 1)
    let (large, small) = (
      CLIPConfig(
        embedding: 6, vision: VisionConfig(imageSize: 32, stages: [2, 3, 2, 1], width: 8, headWidth: 32), text: text),
      CLIPConfig(
        embedding: 4, vision: VisionConfig(imageSize: 32, stages: [1, 1, 2, 1], width: 4, headWidth: 32), text: text)
    )
    let (source, student) = (Self.random(large, seed: 1), Self.random(small, seed: 2))
    for index in 0..<source.parameters.bufferValues.count { source.parameters.bufferValues[index] = Double(index) }
    let plan = try Inheritance(from: large, to: small)
    #expect(plan.stacks.map(\.blocks) == [[0], [0], [0], [0, 1], [0]])
    #expect(plan.cuts.count == student.parameters.entries.count + student.parameters.buffers.count)
    plan.apply(from: source.parameters, to: student.parameters)
    func buffer(_ model: CLIP<Double>, _ name: String) throws -> [Double] {
      model.parameters.value(of: try #require(model.parameters.buffers.first { $0.name == name })).array
    }
    for (name, count) in [("visual.layer3.1.bn3.running_var", 64), ("visual.bn1.running_mean", 2)] {
      #expect(try buffer(student, name) == Array(buffer(source, name).prefix(count)), "\(name)")
    }
    let error = try #require(throws: InheritanceError.self) { try Inheritance(from: large, to: Self.student) }
    #expect(
      error.problems.first?.hasPrefix("visual: the source's image tower is a ModifiedResNet and the student's") == true)
    #expect(!error.problems.contains { $0.hasPrefix("visual.") })
  }
}
