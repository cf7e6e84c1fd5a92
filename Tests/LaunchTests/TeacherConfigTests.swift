import Model
import Testing

@testable import Launch

/// The section `teacher` of the run file is read, written and checked.
@Suite struct TeacherConfigTests {
  /// The message of each mistake names the key to change.
  @Test(arguments: [
    (
      "objective: intra",
      "run.yaml:1:1: teacher: the objective's terms intra, crd, fd learn from a teacher, and none is given; set"
    ),
    ("objective: {rkd: 1}", "run.yaml:1:1: teacher: the objective's term rkd learns from a teacher, and none is given"),
    ("objective: {gd: [{step: 0, value: 0}, {step: 5, value: 1}]}", "teacher: the objective's term gd learns from a"),
    ("teacher: {micro_batch_size: 3}", "run.yaml:6:10: teacher.model is missing: the teacher's weights"),
    ("teacher: \"\"", "run.yaml:6:10: teacher.model: expected a path, found \"\""),
    ("teacher: {model: a, config: b.json}", "run.yaml:6:29: teacher.config: belongs to a safetensors file; a says"),
    ("teacher: {model: a, preset: ViT-B-16}", "run.yaml:6:29: teacher.preset: belongs to a safetensors file; a says"),
    (
      "teacher: {model: a.safetensors, preset: ViT-B-16, config: c}",
      "run.yaml:6:41: teacher.preset: config and preset are both given; take one out"
    ),
    ("teacher: {model: a.safetensors, preset: ViT-B-17}", "teacher.preset: no model is called ViT-B-17"),
    (
      "teacher: {model: a, micro_batch_size: 0}",
      "run.yaml:6:39: teacher.micro_batch_size: expected at least 1, or all, found 0"
    ),
    (
      "teacher: {model: a, image: {mean: [1, 2]}}",
      "run.yaml:6:35: teacher.image.mean: expected [red, green, blue], or own, found [1.0, 2.0]"
    ),
    (
      "teacher: {model: a, image: {std: [1, 0, 1]}}",
      "run.yaml:6:34: teacher.image.std: expected [red, green, blue], each more than 0, or own, found [1.0, 0.0, 1.0]"
    ),
    (
      "teacher: {model: a, image: {alpha: none}}",
      "run.yaml:6:36: teacher.image.alpha: expected white or drop or own, found the text \"none\""
    ),
    (
      "teacher: {model: a, placement: nodes}",
      "teacher.placement: expected node, sharded or replicated, found the text \"nodes\"; did you mean \"node\"?"
    ),
    (
      "teacher: {model: a, placement: sharded, shard_over: 0}",
      "run.yaml:6:53: teacher.shard_over: expected at least 1, or all, found 0"
    ),
    (
      "teacher: {model: a, shard_over: 2}",
      "teacher.shard_over: belongs to placement: sharded, found placement: node"
    ),
    ("teacher: {model: a, imge: {}}", "unknown key \"imge\" in teacher; did you mean \"image\"?"),
  ])
  func mistakes(text: String, message: String) throws {
    let error = #expect(throws: RunFileError.self) { try RunFileTests.decode(RunFileTests.least + "\n" + text) }
    #expect(error?.description.contains(message) == true, "\(String(describing: error))")
  }

  @Test func settingsAreReadBack() throws {
    let text = """

      objective: standard
      teacher:
        model: a.safetensors
        config: b.json
        vocabulary: c
        image: {mean: own, std: [1, 2, 3], alpha: drop}
        micro_batch_size: all
        placement: sharded
        shard_over: 4
      """
    let run = try RunFileTests.decode(RunFileTests.least + text)
    var expected = TeacherConfig()
    expected.model = "a.safetensors"
    expected.config = "b.json"
    expected.vocabulary = "c"
    expected.image.std = [1, 2, 3]
    expected.image.alpha = .drop
    expected.microBatchSize = nil
    expected.placement = .sharded
    expected.shardOver = 4
    #expect(run.teacher == expected && run.usesTeacher)
    #expect(try RunFileTests.decode(run.yaml) == run)
    let short = try RunFileTests.decode(RunFileTests.least, set: ["teacher=a/run", "teacher.micro_batch_size=4"])
    #expect(short.teacher?.model == "a/run" && short.teacher?.microBatchSize == 4 && !short.usesTeacher)
    #expect(try RunFileTests.decode(RunFileTests.least, set: ["teacher=none"]).teacher == nil)
  }
}
