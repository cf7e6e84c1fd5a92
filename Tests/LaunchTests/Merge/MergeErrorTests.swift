import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// Tests what `kinship merge` refuses, and that it leaves nothing behind.
@Suite struct MergeErrorTests {
  let scene: TrainScene
  var run: String { scene.runFolder("run").path }
  var output: String { scene.folder.path("out/model.h5") }

  init() async throws {
    scene = try await TrainScene()
    try await scene.train("run", ["steps=2", "checkpoint.every=1"], ranks: 2)
  }

  private func left() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: scene.folder.path("out"))
  }

  @Test func usage() async throws {
    let both = [scene.checkpoint("run", 1).path, scene.checkpoint("run", 2).path]
    for (arguments, words) in [
      ([run, "-o", "x.bin"], "expected a name that ends in .safetensors, .h5 or .hdf5"),
      (both + ["-o", "x.h5"], "2 models become one with --average, --weights or --ema"),
      ([run, "--average", "-o", "x.h5"], "an average needs at least two"),
      (both + ["--average", "--ema", "0.5", "-o", "x.h5"], "give one of them"),
      (both + ["--weights", "1,2,3", "-o", "x.h5"], "3 weights for 2 models"),
      (both + ["--weights", "1,-2", "-o", "x.h5"], "expected numbers of 0 or more"),
      (both + ["--weights", "0,0", "-o", "x.h5"], "expected numbers of 0 or more"),
      (both + ["--weights", "1e308,1e308", "-o", "x.h5"], "with a finite sum"),
      (both + ["--ema", "1", "-o", "x.h5"], "expected more than 0 and less than 1"),
      (both + ["--average", "--optimizer", "-o", "x.h5"], "moments of several checkpoints have no average"),
      (both + ["--average", "--reshard", "2", "-o", "x"], "--reshard keeps all of one checkpoint"),
      ([run, "--reshard", "0", "-o", "x"], "expected 1 to 99999 parts"),
    ] {
      let found = try await MPIRun.kinship(["merge"] + arguments, ranks: nil)
      #expect(found.status == 64 && found.errors.contains(words), "“\(words)” is not in \(found)")
    }
    let existing = try scene.folder.write("there.h5", [1])
    let again = try await MPIRun.kinship(["merge", run, "-o", existing], ranks: 2)
    #expect(again.status == 64 && again.errors.contains("there.h5: is there already"), "\(again)")
    #expect(try Data(contentsOf: URL(filePath: existing)) == Data([1]))
  }

  @Test func damagedAndMissingCheckpoints() async throws {
    let part = scene.checkpoint("run", 2).appending(path: "part-00001-of-00002.h5")
    var bytes = try Data(contentsOf: part)
    bytes[bytes.count / 2] ^= 1
    try bytes.write(to: part)
    for ranks in [nil, 3] {
      let damaged = try await MPIRun.kinship(["merge", run, "-o", output], ranks: ranks)
      #expect(damaged.status == 65 && damaged.errors.contains("part-00001-of-00002.h5 was altered"), "\(damaged)")
    }
    let missing = try await MPIRun.kinship(["merge", scene.folder.path("none"), "-o", output], ranks: 2)
    #expect(missing.status == 74 && missing.errors.contains("none: there is no such folder or file"), "\(missing)")
    #expect(!FileManager.default.fileExists(atPath: scene.folder.path("out")))
  }

  /// The system refuses to let the file grow, on all ranks or when it is made.
  @Test(arguments: [["model.h5"], ["model.safetensors"], ["parts", "--reshard", "2"]])
  func aFullDiskLeavesNothing(output: [String]) async throws {
    // MPI's own shared memory would be files beyond the limit.
    let script = "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""
    let path = scene.folder.path("out/\(output[0])")
    let found = try await MPIRun.execute(
      ["mpirun", "--oversubscribe", "--mca", "btl", "self,tcp", "-n", "2", "sh", "-c", script]
        + [MPIRun.path(of: "kinship"), "merge", run, "-o", path] + output.dropFirst(), ranks: 2)
    #expect(found.status == 74 && found.errors.contains("File too large"), "\(found)")
    #expect(try left() == [])
  }

  @Test func alteredSafetensorsAreRefused() async throws {
    let path = scene.folder.path("model.safetensors")
    let made = try await MPIRun.kinship(["merge", run, "-o", path], ranks: 2)
    try #require(made.status == 0, "\(made)")
    #expect(try WeightsFile.open(path).verify { _ in nil })
    var bytes = try Data(contentsOf: URL(filePath: path))
    bytes[bytes.count / 2] ^= 1
    try bytes.write(to: URL(filePath: path))
    let found = try await MPIRun.kinship(
      ["evaluate", "retrieval", "--checkpoint", path, "--dataset", scene.dataset], ranks: nil)
    #expect(found.status == 65 && found.errors.contains("\(path): it was altered or is damaged"), "\(found)")
    let again = try await MPIRun.kinship(["merge", path, "-o", output], ranks: nil)
    #expect(again.status == 65 && again.errors.contains("holds weights and no checkpoint"), "\(again)")
  }

  @Test func alteredFilesAreRefused() async throws {
    let made = try await MPIRun.kinship(["merge", run, "-o", output], ranks: nil)
    try #require(made.status == 0, "\(made)")
    let whole = try Data(contentsOf: URL(filePath: output))
    var altered = whole
    altered[whole.count / 2] ^= 1
    for (bytes, words) in [
      (altered, "it was altered"), (whole.dropLast(), "it was altered"), (whole.prefix(300), "it is truncated"),
      (whole.dropFirst(512), "kinship merge did not write it"),
    ] {
      try Data(bytes).write(to: URL(filePath: output))
      let found = try await MPIRun.kinship(
        ["evaluate", "retrieval", "--checkpoint", output, "--dataset", scene.dataset], ranks: nil)
      #expect(found.status == 65 && found.errors.contains(words), "“\(words)” is not in \(found)")
    }
  }
}
