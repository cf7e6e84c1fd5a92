import Dist
import Foundation
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Tests runs with learning rates by part and depth through the program.
@Suite struct ParameterGroupRunTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  private func weights(_ name: String) throws -> SafetensorsFile {
    try SafetensorsFile(scene.runFolder(name).appending(path: ModelFiles.weights))
  }

  /// The first step of AdamW without decay moves the numbers with the largest gradients by their learning rate.
  @Test func theFirstStepIsAsLongAsTheRate() async throws {
    try await scene.train("source", ["steps=1"], ranks: nil)
    try await scene.train(
      "moved",
      [
        "init.from=\"\(scene.runFolder("source").path)\"", "optimizer.weight_decay=0", "optimizer.learning_rate=1e-2",
        "optimizer.warmup=0", "optimizer.schedule=constant", "optimizer.eps=1e-12", "steps=1",
        "optimizer.groups=[{match: visual., lr_scale: 0.25}, {match: visual.proj, lr_scale: 2}]",
        "optimizer.layer_decay={image: 0.5, text: 0.25}", "freeze=[visual.conv1, ln_final]",
      ], ranks: nil)
    let (before, after) = (try weights("source"), try weights("moved"))
    for (name, scale) in [
      ("visual.proj", 2), ("visual.class_embedding", 0.25 * 0.125), ("visual.ln_post.weight", 0.25),
      ("visual.transformer.resblocks.0.mlp.c_fc.weight", 0.25 * 0.25),
      ("visual.transformer.resblocks.1.mlp.c_fc.weight", 0.25 * 0.5), ("text_projection", 1), ("logit_scale", 1),
      ("transformer.resblocks.1.mlp.c_fc.weight", 0.25), ("positional_embedding", 0.015625),
      ("visual.conv1.weight", 0), ("ln_final.bias", 0),
    ] {
      let (old, new): (Tensor<Float>, Tensor<Float>) = (try before.tensor(name), try after.tensor(name))
      let most = zip(old.array, new.array).map { abs(Double($1) - Double($0)) }.max() ?? 0
      #expect(abs(most - scale * 1e-2) <= scale * 1e-4, "\(name): \(most), expected \(scale * 1e-2)")
    }
  }

  @Test func isTheSameOnAnyNumberOfRanksAndGoesOnWithTheSameBits() async throws {
    let values = [
      "optimizer.groups=[{match: image, lr_scale: 0.3, weight_decay: 0.05}, {match: transformer, lr_scale: 2}]",
      "optimizer.layer_decay=0.75", "reduce.bucket=0.01", "ema=0.5", "steps=6",
      "checkpoint.every=3", "freeze=[visual.ln_pre]",
    ]
    let alone = try await scene.train("on1", values, ranks: 1)
    let two = try await scene.train("on2", values, ranks: 2)
    let three = try await scene.train("on3", values, ranks: 3)
    #expect(difference(two, alone) < 1e-5 && difference(three, alone) < 1e-5, "\(alone), \(two), \(three)")
    #expect(difference(try await scene.train("plain", Array(values.dropFirst(2)), ranks: 2), two) > 1e-5)
    let resume = ["--resume", scene.checkpoint("on2", 3).path]
    #expect(try await scene.train("rest", values, resume, ranks: 2) == Array(two.dropFirst(3)))
    for folder in ["", "ema/"] {
      let files = try ["on2", "rest"].map { name in
        try Data(contentsOf: scene.runFolder(name).appending(path: folder + ModelFiles.weights))
      }
      #expect(files[0] == files[1])
    }
  }

  @Test func whatIsPlannedAndRefused() async throws {
    let dry = try await scene.run(
      [
        "optimizer.groups=[{match: visual.ln_pre, lr_scale: 0.1, weight_decay: 0.05}, {match: image, lr_scale: 0.5}]",
        "optimizer.layer_decay={image: 0.75}", "freeze=[visual.ln_pre.bias]",
      ], ["--dry-run"], ranks: nil)
    for words in [
      "groups: visual.ln_pre (32 parameters) 0.1 × the learning rate, weight decay 0.05; image (", "; the rest (",
      "layer decay: image 0.75, from 0.422 × the learning rate at the input; text 1.0, from 1 ×",
    ] {
      #expect(dry.status == 0 && dry.output.contains(words), "“\(words)” is not in \(dry)")
    }
    for (value, words) in [
      (
        "groups=[{match: image}, {match: visul.}]",
        "optimizer.groups.1.match: no parameter of the model has the name \"visul.\" or begins with it; the nearest "
          + "names are visual"
      ),
      (
        "groups=[{match: visual.ln_pre}, {match: visual.ln_pre.weight}, {match: visual.ln_pre.bias}]",
        "optimizer.groups.0.match: all parameters of \"visual.ln_pre\" are in groups with longer prefixes"
      ), ("groups=[{match: visual.}, {match: visual}]", "optimizer.groups.1.match: optimizer.groups.0 has the same"),
      ("groups=[{match: text, lr_scale: 0}]", "optimizer.groups.0.lr_scale: expected more than 0, found 0.0"),
      ("groups=[{match: text, weight_decay: -1}]", "optimizer.groups.0.weight_decay: expected 0 or more, found -1.0"),
      ("groups=[{match: \"\"}]", "optimizer.groups.0.match: expected a tower or the beginning of a name"),
      ("groups=[{lr_scale: 2}]", "optimizer.groups.0.match is missing: a tower"),
      (
        "groups=[text]", "optimizer.groups.0: expected a group (match, lr_scale, weight_decay), found the text \"text\""
      ),
      ("layer_decay=1.5", "optimizer.layer_decay.text: expected more than 0, up to 1, found 1.5"),
      ("layer_decay={image: 0}", "optimizer.layer_decay.image: expected more than 0, up to 1, found 0.0"),
      ("layer_decay=fast", "optimizer.layer_decay: expected a number, or a section (image, text) or none, found"),
    ] {
      let run = try await scene.run(["optimizer.\(value)"], ["--dry-run"], ranks: nil)
      #expect(run.status == 64 && run.errors.contains(words), "“\(words)” is not in \(run)")
    }
  }
}
