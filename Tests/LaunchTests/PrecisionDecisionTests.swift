import Foundation
import Tensor
import Testing

@testable import Launch

extension Processor {
  /// Sapphire Rapids with AMX.
  static let sapphireRapids = Processor(
    name: "Intel(R) Xeon(R) Platinum 8488C", vendor: "GenuineIntel", family: 6, model: 0x8F, stepping: 8,
    hasDotProducts: true, hasAMX: true, products: .amx)
  /// The same in a virtual machine that hides AMX.
  static let withoutAMX = sapphireRapids.with {
    $0.hasAMX = false
    $0.products = .dotProducts
  }
  static let zen4 = Processor(
    name: "AMD EPYC 9R14", vendor: "AuthenticAMD", family: 0x19, model: 0x11, stepping: 1, hasDotProducts: true,
    hasAMX: false, products: .dotProducts)
  static let zen3 = Processor(
    name: "AMD EPYC 7763", vendor: "AuthenticAMD", family: 0x19, model: 0x01, stepping: 1, hasDotProducts: false,
    hasAMX: false, products: nil)

  func with(_ change: (inout Processor) -> Void) -> Processor {
    var copy = self
    change(&copy)
    return copy
  }
}

/// Tests the decisions of `precision: auto` for made-up processors.
@Suite struct PrecisionDecisionTests {
  private static let twice = "whose bf16 dot products run at 2 times the rate of its FMAs"
  private static let slow =
    "Intel Sapphire Rapids without AMX, whose bf16 dot products run at 0.6 times the rate of its FMAs"
  private static let older = "AMD EPYC 7763 has neither AMX nor AVX512_BF16"

  private static let decisions: [(Processor, ComputePrecision, String)] = [
    (.sapphireRapids, .bf16, "Intel(R) Xeon(R) Platinum 8488C has AMX"),
    (.withoutAMX, .fp32, slow),
    (
      .withoutAMX.with { $0.model = 0xCF }, .fp32,
      "Intel Emerald Rapids without AMX, whose bf16 dot products run at 0.7 times the rate of its FMAs"
    ),
    (
      .withoutAMX.with { $0.model = 0xAD }, .fp32,
      "the rate of bf16 dot products is not known for Intel Granite Rapids without AMX"
    ),
    (
      .withoutAMX.with {
        $0.model = 0x55
        $0.stepping = 11
      }, .bf16, "Intel Cooper Lake, \(twice)"
    ),
    // Cascade Lake has Cooper Lake's model number, but no such instructions.
    (
      .zen3.with {
        ($0.name, $0.vendor, $0.family, $0.model, $0.stepping) = ("Xeon", "GenuineIntel", 6, 0x55, 7)
      }, .fp32, "Xeon has neither AMX nor AVX512_BF16"
    ),
    (.zen4, .bf16, "AMD Zen 4, \(twice)"),
    (.zen4.with { $0.model = 0x61 }, .bf16, "AMD Zen 4, \(twice)"),
    (.zen4.with { $0.model = 0xA0 }, .bf16, "AMD Zen 4, \(twice)"),
    (.zen4.with { ($0.family, $0.model) = (0x1A, 0x02) }, .bf16, "AMD Zen 5, \(twice)"),
    (.zen4.with { ($0.family, $0.model) = (0x1A, 0x44) }, .bf16, "AMD Zen 5, \(twice)"),
    (.zen3, .fp32, older),
    (
      .zen4.with { ($0.name, $0.family, $0.model) = ("Next", 0x1B, 3) }, .fp32,
      "the rate of bf16 dot products is not known for the unknown processor Next (AuthenticAMD, family 27, model 3)"
    ),
    // This is another vendor's processor with the numbers of a known one.
    (
      .zen4.with { $0.vendor = "HygonGenuine" }, .fp32,
      "the rate of bf16 dot products is not known for the unknown processor AMD EPYC 9R14 (HygonGenuine, family 25, "
        + "model 17)"
    ),
    // oneDNN is restricted to fewer instructions than the processor has.
    (.sapphireRapids.with { $0.products = .dotProducts }, .fp32, slow),
    (
      .zen4.with { $0.products = nil }, .fp32,
      "oneDNN uses neither AMX nor AVX512_BF16 of AMD EPYC 9R14, see the variable ONEDNN_MAX_CPU_ISA"
    ),
    (
      Processor(
        name: "unknown", vendor: "", family: 0, model: 0, stepping: 0, hasDotProducts: false, hasAMX: false,
        products: nil), .fp32, "this processor has neither AMX nor AVX512_BF16"
    ),
  ]

  @Test(arguments: decisions)
  func oneProcessor(_ processor: Processor, _ used: ComputePrecision, _ reason: String) {
    #expect(PrecisionDecision(processor) == PrecisionDecision(used: used, reason: reason))
  }

  @Test func noProcessorIsInTheTableTwice() {
    for (index, one) in KnownProcessor.all.enumerated() {
      let others = KnownProcessor.all.dropFirst(index + 1)
      for other in others where (one.vendor, one.family) == (other.vendor, other.family) {
        #expect(one.models.allSatisfy { !other.models.contains(where: $0.overlaps) }, "\(one.name), \(other.name)")
      }
    }
  }

  /// Returns ranks on the hosts n0, n1 and so on.
  private static func ranks(_ processors: Processor...) -> [RankProcessor] { ranks(of: processors) }

  private static func ranks(of processors: [Processor]) -> [RankProcessor] {
    processors.enumerated().map { RankProcessor(hostname: "n\($0.offset)", processor: $0.element) }
  }

  @Test func oneRankThatIsNotFasterDecidesForAll() {
    #expect(PrecisionDecision(on: Self.ranks(.zen4, .zen4)).text == "bf16 (auto: AMD Zen 4, \(Self.twice))")
    #expect(
      PrecisionDecision(on: Self.ranks(.zen4, .sapphireRapids)).text
        == "bf16 (auto: AMD Zen 4, \(Self.twice); Intel(R) Xeon(R) Platinum 8488C has AMX)")
    #expect(PrecisionDecision(on: Self.ranks(.zen3, .zen3)).text == "fp32 (auto: \(Self.older))")
    #expect(PrecisionDecision(on: Self.ranks(.zen4, .zen3)).text == "fp32 (auto: host n1: \(Self.older))")
    #expect(PrecisionDecision(on: Self.ranks(.withoutAMX, .zen4)).text == "fp32 (auto: host n0: \(Self.slow))")
  }

  @Test func whatWasBegunIsKept() {
    func kept(_ recorded: ComputePrecision?, _ processors: Processor...) -> String {
      let ranks = Self.ranks(of: processors)
      return PrecisionDecision(on: ranks).keeping(recorded, of: "the run", on: ranks).text
    }
    #expect(kept(nil, .zen4) == "bf16 (auto: AMD Zen 4, \(Self.twice))")
    #expect(kept(.bf16, .zen4) == kept(nil, .zen4))
    #expect(
      kept(.fp32, .zen4)
        == "fp32 (auto: the run was begun in fp32 and keeps to it; a new one would take bf16: AMD Zen 4, "
        + "\(Self.twice))")
    #expect(
      kept(.bf16, .withoutAMX)
        == "bf16 (auto: the run was begun in bf16 and keeps to it; a new one would take fp32: \(Self.slow))")
    #expect(
      kept(.bf16, .withoutAMX, .zen3) == "fp32 (auto: the run was begun in bf16, and on host n1 \(Self.older))")
  }

  // MARK: An explicit bf16

  @Test func bf16WhereItIsSlowerIsObeyedAndSaid() {
    let slow = ProductPrecision(.bf16, on: Self.ranks(.zen4, .withoutAMX))
    #expect(slow.used == .bf16 && slow.note?.hasPrefix("bf16   the towers' products through oneDNN") == true)
    #expect(
      slow.warnings == [
        "precision bf16 is slower than fp32 on host n1: \(Self.slow); write precision: fp32, or auto in a new run"
      ])
    let teacher = ProductPrecision(.bf16, key: "teacher.precision", on: Self.ranks(.withoutAMX))
    #expect(teacher.warnings.first?.hasPrefix("teacher.precision bf16 is slower than fp32 on host n0: ") == true)
    for processor in [Processor.zen4, .sapphireRapids, .zen4.with { $0.family = 0x1B }] {
      #expect(ProductPrecision(.bf16, on: Self.ranks(processor)).warnings == [], "\(processor)")
    }
    #expect(ProductPrecision(.fp32, on: Self.ranks(.withoutAMX)) == ProductPrecision(used: .fp32))
    let mixed = ProductPrecision(.bf16, on: Self.ranks(.zen4, .sapphireRapids))
    #expect(mixed.used == .bf16 && mixed.warnings == [])
  }

  @Test func bf16WithoutSuchProductsIsNotComputed() {
    let older = ProductPrecision(.bf16, on: Self.ranks(.zen4, .zen3))
    #expect(older.used == .fp32 && older.note == nil)
    #expect(
      older.warnings == [
        "precision bf16: the processor of rank 1 has no products of bfloat16 (AVX-512 bf16 or AMX); all ranks compute "
          + "in fp32, as they do with precision: auto or fp32"
      ])
  }

  // MARK: Run files

  private static func run(_ text: String) throws -> RunConfig {
    try RunFileTests.decode(RunFileTests.least + "\nprecision: auto\n" + text, set: ["data.views=2"])
  }

  @Test func aRunFileMaySayAuto() throws {
    #expect(try RunFileTests.decode(RunFileTests.least).precision == .fp32)
    let run = try Self.run("")
    #expect(try run.precision == .auto && RunFileTests.decode(run.yaml) == run)
    let error = #expect(throws: RunFileError.self) {
      try RunFileTests.decode(RunFileTests.least + "\nprecision: autos")
    }
    #expect(
      error?.description.contains(
        "precision: expected fp32, bf16 or auto, found the text \"autos\"; did you mean \"auto\"?") == true)
  }

  @Test func aRunIsDecidedWithItsTeacher() throws {
    let alone = DecidedRun(try Self.run(""), on: Self.ranks(.zen4))
    #expect(alone.run.precision == .bf16 && alone.precision == ["bf16 (auto: AMD Zen 4, \(Self.twice))"])

    let live = try Self.run("objective: intra\nteacher: {model: a, precision: auto}")
    let both = DecidedRun(live, on: Self.ranks(.zen4))
    #expect(both.run.precision == .bf16 && both.run.teacher?.precision == .bf16)
    #expect(both.precision == ["bf16 (auto: AMD Zen 4, \(Self.twice))", "the teacher's likewise"])
    #expect(both.run.yaml.contains("precision: bf16") && !both.run.yaml.contains("precision: auto"))

    var sharded = live
    sharded.teacher?.placement = .sharded
    let exact = DecidedRun(sharded, on: Self.ranks(.zen4))
    #expect(exact.run.precision == .bf16 && exact.run.teacher?.precision == .fp32)
    #expect(exact.precision.last == "the teacher's fp32 (auto: sharded weights are not rounded)")

    let resumed = DecidedRun(
      live, on: Self.ranks(.zen4), recorded: ["precision": "fp32", "teacher.precision": "bf16"])
    #expect(resumed.run.precision == .fp32 && resumed.run.teacher?.precision == .bf16)
    #expect(resumed.precision.last == "the teacher's bf16 (auto: AMD Zen 4, \(Self.twice))")
  }

  @Test func aCacheHasItsPrecisionAlready() throws {
    let teacher = "objective: intra\nteacher: {model: a, cache: b, precision: auto}"
    let run = try Self.run(teacher)
    let decided = DecidedRun(run, on: Self.ranks(.zen3))
    #expect(decided.run.precision == .fp32 && decided.run.teacher?.precision == .auto)
    #expect(decided.precision.last == "the teacher's as its cache has it")
    let several = try Self.run(
      "objective: intra\nteacher: {model: a, cache: b, precision: auto, ensemble: "
        + "[{model: c, cache: d, precision: auto}]}")
    #expect(DecidedRun(several, on: Self.ranks(.zen3)).precision.last == "the teachers' as their caches have them")
    // The run that begins a cache decides; a run that continues it keeps its precision.
    let made = DecidedRun(precomputing: run, on: Self.ranks(.zen4), begun: nil)
    #expect(made.run.teacher?.precision == .bf16)
    let other = DecidedRun(precomputing: run, on: Self.ranks(.zen4), begun: .fp32)
    #expect(other.run.teacher?.precision == .fp32)
    #expect(other.precision.first?.hasPrefix("the teacher's fp32 (auto: the cache was begun in fp32 and keeps") == true)
  }

  @Test func nothingIsSaidOfARunThatNamesItsPrecision() throws {
    let run = try RunFileTests.decode(RunFileTests.least, set: ["precision=bf16"])
    #expect(DecidedRun(run, on: Self.ranks(.zen3)) == DecidedRun(run, on: []))
    #expect(DecidedRun(run, on: []).run == run && DecidedRun(run, on: []).precision == [])
  }

  /// The example shows defaults, and the table's common part and the studies' plans are not runs.
  @Test func theShippedRecipesSayAuto() throws {
    let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "scripts/recipes", directoryHint: .isDirectory)
    let others = ["example.yaml", "paper/common.yaml"] + StudyTests.shipped.map { "studies/\($0).yaml" }
    let names = try FileManager.default.subpathsOfDirectory(atPath: folder.path).filter {
      $0.hasSuffix(".yaml") && !others.contains($0)
    }
    #expect(names.count > 30)
    for name in names {
      #expect(try RunConfig.load(folder.appending(path: name).path).precision == .auto, "\(name)")
    }
  }

  // MARK: Reports

  @Test func theDoctorSaysWhatAutoTakesOnEachHost() {
    let reports = Self.ranks(.zen4, .withoutAMX).enumerated().map { rank, processor in
      DiagnosisTests.report(rank) {
        ($0.node, $0.hostname, $0.host.identity) = (rank, processor.hostname, processor.processor)
      }
    }
    let lines = DoctorReport(reports).text.split(separator: "\n").map(String.init).filter {
      $0.hasPrefix("  precision ")
    }
    let all = "  precision      auto takes fp32: host n1: \(Self.slow)"
    #expect(lines == ["\(all); this host alone would take bf16: AMD Zen 4, \(Self.twice)", all])
    // A report of an earlier version has no precision.
    let unknown = DoctorReport([DiagnosisTests.report(0)])
    #expect(unknown.precision == nil && !unknown.text.contains("auto takes"))
  }

  #if os(Linux) && arch(x86_64)
    /// Compares CPUID, as read here, with the kernel's reading of it.
    @Test func thisProcessor() throws {
      let text = try String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)
      var facts: [String: String] = [:]
      for line in text.split(separator: "\n") {
        let parts = line.split(separator: ":", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
        if let name = parts.first, facts[name] == nil { facts[name] = parts.count > 1 ? parts[1] : "" }
      }
      let processor = Processor.current
      #expect(processor.name == facts["model name"] && processor.vendor == facts["vendor_id"])
      #expect(
        [processor.family, processor.model, processor.stepping].map(String.init)
          == ["cpu family", "model", "stepping"].compactMap { facts[$0] })
      let flags = Set((facts["flags"] ?? "").split(separator: " "))
      #expect(processor.hasDotProducts == flags.contains("avx512_bf16"))
      #expect(processor.hasAMX == flags.isSuperset(of: ["amx_tile", "amx_bf16"]))
      #expect(processor.products?.rawValue == RoundedProducts.instructions)
    }
  #endif
}
