import Foundation
import Tensor
import TestSupport
import Testing

@testable import Dist
@testable import Launch

/// Caches that are unfinished, damaged or incomplete.
@Suite struct PrecomputeResumeTests {
  let scene: CacheScene

  init() async throws { scene = try await CacheScene() }

  private func remove(_ cache: String, _ file: String) throws {
    try FileManager.default.removeItem(atPath: "\(scene.folder(cache))/\(file)")
  }

  private func damage(_ cache: String, _ file: String) throws {
    let url = URL(filePath: "\(scene.folder(cache))/\(file)")
    var bytes = try Data(contentsOf: url)
    bytes[bytes.count / 2] ^= 1
    try bytes.write(to: url)
  }

  /// A job is killed, stopped and asked to end, each time with another number of ranks and with more parts finished. In
  /// the end the files are the same as those of a job that was left alone.
  @Test func killedAtAnyMoment() async throws {
    let slowly = ["teacher.cache.part=1", "data.views=200"]
    try await scene.precompute("whole", slowly, ranks: 2)
    // The signal comes as soon as there are MORE more files than before.
    let script = """
      files() { ls "$FOLDER" 2>/dev/null | wc -l; }
      enough=$(($(files) + MORE))
      mpirun --oversubscribe -n $RANKS sh -c 'echo $$ >> "$PIDS"; exec "$@"' sh "$@" &
      job=$!
      "$AWAIT" entries "$FOLDER" $enough --while $job
      case $SIGNAL in
        KILL) kill -KILL $(cat "$PIDS") $job 2>/dev/null ;;
        STOP) kill -STOP $(tail -n 1 "$PIDS") ;;
        *) kill -$SIGNAL $job ;;
      esac
      wait $job
      """
    var random = SystemRandomNumberGenerator()
    var seen: [Int] = []
    for (attempt, signal) in ["KILL", "STOP", "USR1", "KILL", "KILL"].enumerated() {
      let ranks = attempt % 3 + 1
      let run = try await MPIRun.execute(
        ["bash", "-c", script, "bash", try MPIRun.path(of: "kinship"), "precompute", scene.scene.runFile]
          + (scene.settings("killed") + slowly + ["watchdog.deadline=1"]).flatMap { ["--set", $0] },
        [
          "RANKS": "\(ranks)", "PIDS": scene.scene.folder.path("pids\(attempt)"),
          "FOLDER": scene.folder("killed"), "MORE": "\(attempt + Int.random(in: 1...3, using: &random))",
          "AWAIT": try MPIRun.path(of: "Await"), "SIGNAL": signal,
        ], ranks: ranks)
      #expect(run.status == ["KILL": 137, "STOP": 77, "USR1": 75][signal], "\(signal): \(run)")
      if signal == "USR1" {
        #expect(run.output.contains("stopped by SIGUSR1; every complete part is kept"), "\(run)")
        #expect(!FileManager.default.fileExists(atPath: "\(scene.folder("killed"))/.lock"))
      }
      let names = (try? FileManager.default.contentsOfDirectory(atPath: scene.folder("killed"))) ?? []
      seen.append(names.filter { $0.wholeMatch(of: /part-[0-9]+\.h5/) != nil }.count)
    }
    #expect(Set(seen.filter { $0 > 0 && $0 < 23 }).count > 1, "\(seen)")
    let last = try await scene.precompute("killed", slowly, ranks: 3)
    #expect(last.output.contains("23 parts, \(seen.last ?? 0) of them there already"), "\(seen): \(last)")
    #expect(last.output.contains("killed/corpus is taken over from process "), "\(last)")
    let (found, expected) = (try scene.files("killed"), try scene.files("whole"))
    #expect(found.keys.sorted() == expected.keys.sorted())
    #expect(found == expected)
  }

  @Test func missingAndDamagedPartsAreNamedAndComputedAgain() async throws {
    try await scene.precompute("cache", ranks: 2)
    let whole = try scene.files("cache")
    try remove("cache", "part-00001.h5")
    try damage("cache", "part-00003.h5")
    let training = try await scene.scene.run(scene.settings("cache"), ranks: 3)
    #expect(training.status == 65, "\(training)")
    #expect(training.errors.contains("part-00001.h5 is missing"), "\(training)")
    #expect(training.errors.contains("part-00003.h5 is damaged: its SHA-256 is"), "\(training)")
    #expect(training.errors.contains("run kinship precompute again"), "\(training)")
    #expect(!training.errors.contains("part-00002.h5"), "\(training)")

    let again = try await scene.precompute("cache", ranks: 3)
    #expect(again.output.contains("5 parts, 3 of them there already"), "\(again)")
    #expect(try scene.files("cache") == whole)
    let idle = try await scene.precompute("cache", ranks: 1)
    #expect(idle.output.contains("5 parts, 5 of them there already"), "\(idle)")
    #expect(try scene.files("cache") == whole)

    // An altered manifest is refused. The parts remain valid without one.
    try damage("cache", "cache.json")
    let altered = try await scene.scene.run(scene.settings("cache"), ranks: 2)
    #expect(altered.status == 65, "\(altered)")
    #expect(altered.errors.contains("cache.json") && altered.errors.contains("remove cache.json"), "\(altered)")
    try remove("cache", "cache.json")
    let kept = try await scene.precompute("cache", ranks: 2)
    #expect(kept.output.contains("5 parts, 5 of them there already"), "\(kept)")
    #expect(try scene.files("cache") == whole)
  }

  /// A record says where the numbers are. One that was altered does not count, and its part is computed again; one that
  /// is no file does not hold up the command.
  @Test func alteredRecordsDoNotCount() async throws {
    try await scene.precompute("cache", ranks: 1)
    let whole = try scene.files("cache")
    try remove("cache", "cache.json")
    let record = "\(scene.folder("cache"))/part-00001.json"
    let text = try String(contentsOfFile: record, encoding: .utf8)
    let altered = text.replacing(/"image_offset" : [0-9]+/) { "\($0.output)0" }
    try #require(altered != text)
    try altered.write(toFile: record, atomically: false, encoding: .utf8)
    let again = try await scene.precompute("cache", ranks: 1)
    #expect(again.output.contains("5 parts, 4 of them there already"), "\(again)")
    #expect(try scene.files("cache") == whole)

    try remove("cache", "cache.json")
    try remove("cache", "part-00002.json")
    let pipe = "\(scene.folder("cache"))/part-00002.json"
    try #require(mkfifo(pipe, 0o600) == 0)
    let blocked = try await scene.run("cache", ranks: nil)
    let words = "part-00002.json: it is not a file but a pipe"
    #expect(blocked.status == 74 && blocked.errors.contains(words), "\(blocked)")
  }

  /// Other kernels of BLAS may read a whole cache, but not finish one. Nor may any finish one of an earlier build.
  @Test(.betterKernels) func anotherArithmetic() async throws {
    func precompute(_ environment: [String: String] = ["OPENBLAS_CORETYPE": "Prescott"]) async throws -> MPIRun {
      try await MPIRun.kinship(
        ["precompute", scene.scene.runFile] + scene.settings("cache").flatMap { ["--set", $0] }, ranks: nil,
        environment: environment)
    }
    try await scene.precompute("cache", ranks: nil)
    let whole = try scene.files("cache")
    var manifest = try #require(try CacheManifest.read(scene.folder("cache")))
    let own = try #require(manifest.arithmetic)
    #expect(own.count == 1 && own[0].kernels == Arithmetic.currentKernels && own[0].precision == .fp32)
    var other = own[0]
    other.libraries[1].instructions = "Prescott"
    let idle = try await precompute()
    #expect(idle.status == 0 && idle.output.contains("\narithmetic \(other.text)\n"), "\(idle)")
    #expect(idle.output.contains("\ncorpus  was computed with \(own.text)\n"), "\(idle)")
    #expect(try scene.files("cache") == whole)

    func train(_ name: String, says words: String) async throws {
      let run = try await scene.scene.run(scene.settings("cache") + ["name=\(name)", "steps=1"], ranks: nil)
      #expect(run.status == 0 && run.output.contains("\(scene.path("cache")), computed with \(words)\n"), "\(run)")
    }
    func refuses(_ run: MPIRun, _ was: String, _ now: String) {
      let words = "it was begun with \(was), this job computes with \(now), and 1 of 5 parts are to be computed"
      #expect(run.status == 65 && run.errors.contains(words), "\(run)")
      #expect(run.errors.contains("name another folder in teacher.cache, or remove this one"), "\(run)")
    }
    try await train("known", says: own.text)
    manifest.arithmetic = nil
    try manifest.write(into: scene.folder("cache"))
    try await train("unknown", says: "an unknown arithmetic")
    try remove("cache", "part-00001.h5")
    refuses(try await precompute([:]), "an unknown arithmetic", own.text)
    manifest.arithmetic = own
    try manifest.write(into: scene.folder("cache"))
    refuses(try await precompute(), own.text, other.text)
    try await scene.precompute("cache", ranks: nil)
    #expect(try scene.files("cache") == whole)
    // Parts that no manifest lists are not taken for this job's either.
    try remove("cache", "cache.json")
    let anew = try await precompute()
    #expect(anew.status == 0 && anew.output.contains("5 parts, 0 of them there already"), "\(anew)")
  }

  /// Parts of another teacher in the same folder are not used.
  @Test func leftOversOfAnotherTeacher() async throws {
    try await scene.scene.train("second", ["steps=2", "seed=9"], ranks: nil)
    let second = "teacher.model=\"\(scene.scene.runFolder("second").path(percentEncoded: false))\""
    try await scene.precompute("fresh", [second], ranks: 2)
    try await scene.precompute("cache", ranks: 2)
    try remove("cache", "cache.json")
    let over = try await scene.precompute("cache", [second], ranks: 2)
    #expect(over.output.contains("5 parts, 0 of them there already"), "\(over)")
    #expect(try scene.files("cache") == scene.files("fresh"))
  }

  /// The spot check finds numbers with correct checksums that the teacher does not compute, and invalidates the cache.
  @Test(arguments: [1, 3]) func aFailedSpotCheckInvalidatesTheCache(ranks: Int) async throws {
    try await scene.precompute("cache", ranks: 2)
    let whole = try scene.files("cache")
    let manifest = try JSONDecoder().decode(CacheManifest.self, from: try #require(whole["cache.json"]))
    for part in manifest.parts {
      let file = URL(filePath: "\(scene.folder("cache"))/\(part.file)")
      var bytes = try Data(contentsOf: file)
      // All little-endian floats get the opposite sign, so that the rows keep length 1.
      for at in stride(from: part.imageOffset + 3, to: part.imageOffset + (part.end - part.first) * 2 * 24 * 4, by: 4) {
        bytes[at] ^= 0x80
      }
      try bytes.write(to: file)
      // Its record becomes the one that a job would have written that computed these numbers.
      let folder = scene.folder("cache")
      let record = try #require(PartRecord.read(folder, part.file))
      let text = String(decoding: try JSONEncoder().encode(part), as: UTF8.self)
      let renewed = text.replacing(part.sha256, with: try SHA256.ofFile(file.path(percentEncoded: false)))
      let altered = try JSONDecoder().decode(CacheManifest.Part.self, from: Data(renewed.utf8))
      try PartRecord(key: record.key, part: altered).write(folder)
    }
    try remove("cache", "cache.json")
    let run = try await scene.run("cache", ranks: ranks)
    #expect(run.status == 65 && run.output.contains("5 parts, 5 of them there already"), "\(run)")
    #expect(run.errors.contains("the stored embedding of the image"), "\(run)")
    #expect(run.errors.contains("The cache was invalidated"), "\(run)")
    let training = try await scene.scene.run(scene.settings("cache"), ranks: 2)
    #expect(training.status == 74 && training.errors.contains("there is no cache.json"), "\(training)")
    let again = try await scene.precompute("cache", ranks: ranks)
    #expect(again.output.contains("5 parts, 0 of them there already"), "\(again)")
    #expect(try scene.files("cache") == whole)
  }

  /// Another tool in another folder reads the view over all parts. A missing part reads as NaN.
  @Test func h5dumpReadsTheView() async throws {
    try await scene.precompute("cache", ranks: 2)
    func dump(_ dataset: String, _ start: String, _ count: String) async throws -> String {
      let run = try await MPIRun.execute(
        [
          "sh", "-c", "cd / && exec h5dump -d \(dataset) -s \(start) -c \(count) -m %.9g \"$0\"",
          "\(scene.folder("cache"))/embeddings.h5",
        ])
      #expect(run.status == 0, "\(run)")
      return run.output
    }
    let part = try HDF5File.open("\(scene.folder("cache"))/part-00001.h5")
    let expected = try part.dataset("image").read(Float.self)
    try part.close()
    // Sample 6, view 1: row 3 of part 1.
    let row = try await dump("/image", "6,1,0", "1,1,24")
    for value in expected[72..<76] { #expect(row.contains(String(format: "%.9g", value)), "\(value): \(row)") }
    #expect(row.contains("( 23, 2, 24 ) / ( 23, 2, 24 )"), "\(row)")
    try remove("cache", "part-00001.h5")
    #expect(try await dump("/image", "6,1,0", "1,1,24").contains("nan"))
    #expect(try await dump("/text", "10,0", "1,24").contains("nan"))
    #expect(!(try await dump("/image", "0,0,0", "5,2,24")).contains("nan"))
    #expect(!(try await dump("/text", "20,0", "26,24")).contains("nan"))
  }
}
