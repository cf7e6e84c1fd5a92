import Model
import Settings
import TestSupport
import Testing

@testable import Launch

/// The run file's `objective`: presets, what is set beside them, schedules, and what is refused.
@Suite struct ObjectiveConfigTests {
  static func decode(_ text: String, set: [String] = []) throws(RunFileError) -> ObjectiveOptions {
    try RunFileTests.decode(RunFileTests.least + "\n" + text + "\nteacher: a/run", set: set).objective
  }

  @Test(arguments: ObjectivePreset.allCases) func everyPresetIsWrittenOutAndReadsBack(preset: ObjectivePreset) throws {
    let run = try RunFileTests.decode(RunFileTests.least + "\nteacher: a/run\nobjective: \(preset.rawValue)")
    #expect(run.objective == ObjectiveOptions(preset))
    for step in [0, 7, 1_000_000] { #expect(run.objective.at(step) == preset.options) }
    #expect(run.objective == preset.options)
    #expect(try RunFileTests.decode(run.yaml) == run)
    // The resolved run does not lean on the preset: with another name in its place, its values still stand.
    let renamed = run.yaml.replacing("preset: \(preset.rawValue)\n", with: "preset: clip\n")
    #expect(try RunFileTests.decode(renamed).objective.at(0) == preset.options)
  }

  @Test func keysBesideAPresetWin() throws {
    let objective = try Self.decode(
      "objective: {intra: 0.5, intra_options: {tau: 0.07}, preset: intra-no-grad, icl: 2, logit_scale: 50}")
    var expected = ObjectivePreset.intraNoGradient.options
    expected.intra = 0.5
    expected.icl = 2
    expected.fixedLogitScale = Scheduled(50)
    expected.intraOptions.tau = 0.07
    #expect(objective.at(3) == expected)
    let learned = try Self.decode("objective: {preset: tinyclip, logit_scale: learned, affinity_scale: own}")
    #expect(learned.at(0).fixedLogitScale == nil && learned.at(0).affinityScale == nil)
  }

  @Test(arguments: ["", "objective: standard", "objective: {preset: standard, fd: 1}"])
  func theCommandLineReachesIntoEveryForm(text: String) throws {
    let objective = try Self.decode(
      text, set: ["objective.preset=intra", "objective.fd=1000", "objective.intra_options.source=cross_kl"])
    var expected = ObjectivePreset.intra.options
    expected.fd = 1000
    expected.intraOptions.source = .crossKL
    #expect(objective.at(0) == expected)
    #expect(try Self.decode(text, set: ["objective=clip-kd"]) == ObjectiveOptions(.clipKD))
  }

  @Test func otherShortFormsCanBeReachedIntoToo() throws {
    let run = try RunFileTests.decode(
      RunFileTests.least, set: ["model.quick_gelu=true", "data.datasets.0.weight=3"])
    #expect(run.model.preset == "ViT-T-16" && run.model.quickGELU == true)
    #expect(run.data.datasets.map(\.path) == ["a/index.json"] && run.data.datasets[0].weight == 3)
  }

  static let scheduled = """
    objective:
      preset: intra
      fd: [{step: 100, value: 0}, {step: 300, value: 2000}]
      crd: [{step: 5, value: 3}]
      gd: [{step: 0, value: 0}, {step: 10, value: 1e8}, {step: 11, value: 0}]
      logit_scale: [{step: 0, value: 10}, {step: 10, value: 20}]
      intra_options:
        weighting: [{step: 0, value: uniform}, {step: 50, value: sum}]
        weight_grad: [{step: 0, value: false}, {step: 60, value: true}]
        image: [{step: 0, value: 0}, {step: 4, value: 1}]
    """

  @Test func numbersGoInLinesAndSwitchesHold() throws {
    let objective = try Self.decode(Self.scheduled)
    let fd = [0, 100, 150, 300, 1_000_000].map { objective.at($0).fd }
    #expect(fd == [0, 0, 500, 2000, 2000])
    #expect([0, 5, 10].map { objective.at($0).crd } == [3, 3, 3])
    #expect([0, 5, 10, 11, 12].map { objective.at($0).gd } == [0, 5e7, 1e8, 0, 0])
    #expect([0, 1, 10, 99].map { objective.at($0).fixedLogitScale?.wrappedValue } == [10, 11, 20, 20])
    let intra = [0, 1, 49, 50, 59, 60].map { objective.at($0).intraOptions }
    #expect(intra.map(\.weighting) == [.uniform, .uniform, .uniform, .sum, .sum, .sum])
    #expect(intra.map(\.weightGradient) == [false, false, false, false, false, true])
    #expect(intra.map(\.image) == [0, 0.25, 1, 1, 1, 1])
    #expect(intra.allSatisfy { $0.text == 1 })
  }

  @Test func aTermThatIsEverUsedIsDeclared() throws {
    let objective = try Self.decode(Self.scheduled)
    #expect(objective.needsTeacher && objective.keys(needing: []).sorted() == ["clip", "crd", "fd", "gd", "intra"])
    #expect(objective[FDSettings.self].weight.isEverUsed && objective.intraOptions.$image.isEverUsed)
    #expect(try !Self.decode("objective: {fd: [{step: 3, value: 0}, {step: 9, value: 0}]}").needsTeacher)
    #expect(try Self.decode("objective: {fd: [{step: 3, value: 0}, {step: 9, value: 1}]}").needsTeacher)
  }

  @Test func theLogShowsWeightsThatChange() throws {
    #expect(try Self.decode(Self.scheduled).scheduledTerms == ["fd", "gd", "intra_image"])
    let intra = "objective: {preset: standard, intra: [{step: 0, value: 0}, {step: 9, value: 1}]}"
    #expect(try Self.decode(intra).scheduledTerms == ["intra_image", "intra_text"])
    #expect(try Self.decode("objective: intra").scheduledTerms == [])
  }

  @Test func warnsOfPointsThatAreNotReached() throws {
    let objective = try Self.decode(Self.scheduled)
    #expect(objective.warnings(totalSteps: 301) == [])
    #expect(
      objective.warnings(totalSteps: 60) == [
        "objective.fd: the last point (step 300) is not reached, for steps are 0 to 59; move it, or train longer",
        "objective.intra_options.weight_grad: the last point (step 60) is not reached, for steps are 0 to 59; move it,"
          + " or train longer",
      ])
    let run = try RunFileTests.decode(RunFileTests.least + "\n" + Self.scheduled + "\nteacher: t", set: ["steps=60"])
    #expect(run.warnings(totalSteps: 60).count == 3, "these and the warm-up's")
  }

  @Test func schedulesReadBackEqual() throws {
    let run = try RunFileTests.decode(RunFileTests.least + "\nteacher: a/run\n" + Self.scheduled)
    #expect(try RunFileTests.decode(run.yaml) == run)
    #expect(run.yaml.contains("  fd:\n    - step: 100\n      value: 0.0\n    - step: 300\n"))
    #expect(run.yaml.contains("\n  crd: 3.0\n"), "one point is a constant")
    let later = try RunFileTests.decode(run.yaml, set: ["objective.fd.1.value=500"])
    #expect(later.objective.at(200).fd == 250)
  }

  @Test func otherReadingsReadBackEqual() throws {
    let text = """
      objective: {preset: intra, gram: 2, gram_weights: difference, intra_options: {weighting: inverse, \
      inverse_epsilon: 0.001, softmax_temperature: -2, pair_total: row, multiplies: [intra, clip, fd], \
      temperature: learned, learned_scale: exp, learned_teacher: own}}
      """
    let run = try RunFileTests.decode(RunFileTests.least + "\n" + text + "\nteacher: t")
    var expected = ObjectivePreset.intra.options
    (expected.gram, expected.gramWeights) = (2, .difference)
    var intra = expected.intraOptions
    (intra.weighting, intra.inverseEpsilon, intra.softmaxTemperature) = (.inverse, 0.001, -2)
    (intra.pairTotal, intra.multiplies) = (.row, [.intra, .clip, .fd])
    (intra.temperature, intra.learnedScale, intra.learnedTeacher) = (.learned, .exp, .own)
    expected.intraOptions = intra
    #expect(run.objective == expected)
    #expect(try RunFileTests.decode(run.yaml) == run)
  }

  /// What is written under `objective:`, and what must be said of it.
  static let mistakes: [(text: String, messages: [String])] = [
    (
      "objective: itnra",
      [
        "6:12: objective: expected clip, standard, clip-kd, tinyclip, intra, intra-uniform, intra-no-grad,"
          + " intra-clip-weighted, intra-no-image or intra-no-text, found the text \"itnra\"; did you mean \"intra\"?"
      ]
    ),
    (
      "objective: {fd: -1, intra: -0.5, affinity_scale: 0, logit_scale: 101,"
        + " intra_options: {image: -2, tau: 0, softmax_temperature: 0}}",
      [
        "6:17: objective.fd: expected a weight of 0 or more, found -1.0",
        "6:28: objective.intra: expected a weight of 0 or more, found -0.5",
        "6:50: objective.affinity_scale: expected own, or more than 0, found 0.0",
        "6:66: objective.logit_scale: expected learned, or 1 to 100, found 101.0",
        "6:94: objective.intra_options.image: expected a weight of 0 or more, found -2.0",
        "6:103: objective.intra_options.tau: expected a temperature of more than 0, found 0.0",
        "6:127: objective.intra_options.softmax_temperature: expected a number other than 0, of one sign in"
          + " all steps, found 0.0",
      ]
    ),
    (
      "objective: {clip: 0}",
      [
        "6:12: objective: every weight is 0, so nothing is learned; give one of intra, clip, crd, affinity, fd, icl,"
          + " cross_kd, gd, afd, rkd, siglip, gram a weight"
      ]
    ),
    (
      "objective: {preset: intra-no-text, intra_options: {image: 0}}",
      [
        "6:51: objective.intra_options: image and text are both 0, so intra has no part; give one of them a weight,"
          + " or set objective.intra to 0"
      ]
    ),
    (
      "objective: {preset: intra-clip-weighted, intra_options: {weighting: uniform}}",
      [
        "6:57: objective.intra_options.source: equal weights have no source; set source to intra_kl, found clip"
      ]
    ),
    (
      "objective: {preset: intra, intra_options: {granularity: pair, divergence: js}}",
      [
        "6:75: objective.intra_options.divergence: pairs are weighed by |p − q| over its sum, on"
          + " KL(teacher ‖ student); set divergence to kl_fwd, found js"
      ]
    ),
    (
      "objective: {preset: intra, intra_options: {inverse_epsilon: 0, softmax_temperature: [{step: 0, value: 1},"
        + " {step: 9, value: -1}]}}",
      [
        "6:61: objective.intra_options.inverse_epsilon: expected more than 0, found 0.0",
        "6:124: objective.intra_options.softmax_temperature.1.value: expected a number other than 0, of one sign in"
          + " all steps, found -1.0",
      ]
    ),
    (
      "objective: {preset: intra, intra_options: {granularity: modality, multiplies: [intra, crd]}}",
      [
        "6:79: objective.intra_options.multiplies: a modality is weighed by its mean divergence over the sum of both;"
          + " set multiplies to [intra], found [intra, crd]"
      ]
    ),
    (
      "objective: {intra: 1, intra_options: {multiplies: [intra, fd]}}",
      [
        "6:20: objective.intra: its weights multiply the rows of fd, which has no weight; give objective.fd a weight,"
          + " or do not name it"
      ]
    ),
    (
      "objective: {preset: intra, intra_options: {multiplies: []}}",
      [
        "6:56: objective.intra_options.multiplies: expected at least one of intra, clip, crd or fd, found an empty"
          + " list; for equal weights set weighting to uniform"
      ]
    ),
    (
      "objective: {preset: intra, intra_options: {multiplies: [clip, clip]}}",
      ["6:56: objective.intra_options.multiplies: expected each term once, found [clip, clip]"]
    ),
    (
      "objective: {preset: intra, gram_weights: sum, intra_options: {multiplies: [intra, clp], pair_total: rows}}",
      [
        "6:42: objective.gram_weights: expected uniform, difference or difference_no_grad or a list of points (step,"
          + " value), found the text \"sum\"",
        "6:83: objective.intra_options.multiplies.1: expected intra, clip, crd or fd, found the text \"clp\"; did you"
          + " mean \"clip\"?",
        "6:101: objective.intra_options.pair_total: expected all or row or a list of points (step, value), found the"
          + " text \"rows\"; did you mean \"row\"?",
      ]
    ),
    (
      "objective: {preset: intra, intra_options: {granularity: [{step: 0, value: row}, {step: 9, value: modality}],"
        + " weighting: raw}}",
      [
        "6:121: objective.intra_options.weighting: a modality is weighed by its mean divergence over the sum of both;"
          + " set weighting to sum, found raw (from step 9 on)"
      ]
    ),
    (
      "objective: {fd: [], crd: [{step: 5, value: 1}, {step: 5, value: 2}], icl: [{step: -1, value: 1}],"
        + " gd: [{step: 1}, 3], intra: many, gd_scale: [{step: 0, value: propper}]}",
      [
        "6:17: objective.fd: expected at least one point (step, value), found an empty list",
        "6:48: objective.crd.1.step: expected a later step than 5, that of the point before it, found 5",
        "6:76: objective.icl.0.step: expected 0 or more, found -1",
        "6:104: objective.gd.0.value is missing: a number",
        "6:115: objective.gd.1: expected a point (step, value), found the number 3",
        "6:126: objective.intra: expected a number or a list of points (step, value), found the text \"many\"",
        "6:160: objective.gd_scale.0.value: expected reciprocal or proper, found the text \"propper\";"
          + " did you mean \"proper\"?",
      ]
    ),
    (
      "objective: {fd: [{step: 0, value: 1}, {step: 3, value: -1}], intra_option: {}}",
      [
        "6:62: unknown key \"intra_option\" in objective; did you mean \"intra_options\"? Known keys: preset, intra,"
          + " clip, crd, affinity, fd, icl, cross_kd, gd, afd, rkd, siglip, gram, intra_options, affinity_scale,"
          + " icl_scale, gd_scale, rkd_beta, siglip_bias, gram_weights, logit_scale"
      ]
    ),
    (
      "objective: {rkd: 1, rkd_beta: [{step: 0, value: 1}, {step: 4, value: 0}]}",
      ["6:70: objective.rkd_beta.1.value: expected more than 0, found 0.0"]
    ),
    (
      "objective: {clip: 0, siglip: -1, siglip_bias: 100.5}",
      [
        "6:30: objective.siglip: expected a weight of 0 or more, found -1.0",
        "6:47: objective.siglip_bias: expected -100 to 100, found 100.5",
      ]
    ),
    (
      "objective: {siglip: 1, siglip_bias: [{step: 0, value: -10}]}",
      ["6:37: objective.siglip_bias: expected a number, found a list"]
    ),
    (
      "objective: {fd: [{step: 0, value: 1}, {step: 3, value: -1}]}",
      ["6:56: objective.fd.1.value: expected a weight of 0 or more, found -1.0"]
    ),
  ]

  @Test(arguments: mistakes) func everyMistakeIsTold(text: String, messages: [String]) {
    let error = #expect(throws: RunFileError.self) { try Self.decode(text) }
    #expect(error?.problems.map(\.line).sorted() == messages.map { "run.yaml:\($0)" }.sorted())
  }

  /// A contradiction among switches of a term that is not used harms nobody.
  @Test func switchesOfAnUnusedTermMayStand() throws {
    let options = try Self.decode("objective: {intra_options: {granularity: pair, image: 0, text: 0}}").at(0)
    #expect(options.intraOptions.granularity == .pair)
  }

  @Test func pairsAndModalitiesAsTheyAreMeant() throws {
    for preset in ["intra", "intra-no-grad"] {
      let pair = try Self.decode("objective: {preset: \(preset), intra_options: {granularity: pair}}")
      #expect(pair.at(0).intraOptions.granularity == .pair)
    }
    let modality = try Self.decode("objective: {preset: intra, intra_options: {granularity: modality, divergence: js}}")
    #expect(modality.at(0).intraOptions.divergence == .jensenShannon)
  }
}
