import CMachine
import Dist
import Foundation
import Tensor

/// The properties of a processor that decide the rate of its bfloat16 products.
struct Processor: Codable, Equatable, Sendable {
  /// The instructions that multiply bfloat16, in oneDNN's order of preference.
  enum Products: String, Codable, Sendable {
    case amx = "AMX"
    case dotProducts = "AVX-512 bf16"
  }

  var name: String
  /// CPUID's vendor, such as `GenuineIntel` or `AuthenticAMD`; empty on processors without CPUID.
  var vendor: String
  var family, model, stepping: Int
  /// True if processor and operating system offer AVX512_BF16, and AMX with bfloat16.
  var hasDotProducts, hasAMX: Bool
  /// The instructions that oneDNN uses here, which `ONEDNN_MAX_CPU_ISA` may restrict; nil if it uses neither.
  var products: Products?

  static var current: Processor {
    let found = kinship_identify_processor()
    let letters = [found.vendor.0, found.vendor.1, found.vendor.2].flatMap { word in
      (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32(8 * $0)) }
    }
    return Processor(
      name: Machine.processorName, vendor: String(decoding: letters.filter { $0 != 0 }, as: UTF8.self),
      family: Int(found.family), model: Int(found.model), stepping: Int(found.stepping),
      hasDotProducts: found.dot_products != 0, hasAMX: found.amx != 0,
      products: RoundedProducts.instructions.flatMap(Products.init(rawValue:)))
  }

  /// The table's entry for the processor's bf16 dot products, if there is one.
  var known: KnownProcessor? { hasDotProducts ? KnownProcessor.all.first { $0.describes(self) } : nil }
  /// True if bf16 products are known to be slower here than fp32 products.
  var isSlowerRounded: Bool { products == .dotProducts && known?.ratio ?? 1 < 1 }
}

/// The processor under one rank.
struct RankProcessor: Codable, Equatable, Sendable {
  var hostname: String
  var processor: Processor

  /// Returns the processors of all ranks, in rank order, on every rank. Every rank must call it.
  static func all(over ranks: Communicator) throws -> [RankProcessor] {
    try ranks.allGather(RankProcessor(hostname: ranks.hostname, processor: .current))
  }
}

/// A line of processors with AVX512_BF16, and the rate of its dot products (VDPBF16PS) relative to its FMAs.
/// `precision: auto` decides by this table and not by a clock: measurements differ from one start to the next, and the
/// bits of a run would differ with them. A new line needs a measured or documented ratio and its source.
struct KnownProcessor: Sendable {
  let vendor: String
  let family: Int
  let models: [ClosedRange<Int>]
  let name: String
  /// The rate of multiply-adds in bf16 dot products, divided by the rate in fp32 FMAs; nil if it is not known.
  let ratio: Double?
  /// The least ratio at which bf16 is taken: the gain must pay for the additional conversions.
  static let leastRatio = 1.5
  private static let (amd, intel) = ("AuthenticAMD", "GenuineIntel")

  static let all: [KnownProcessor] = [
    // Measured for Kinship, one thread: oneDNN 2.6 gives 187–213 GFLOP/s in bf16, fp32 products give 89–105. bf16 is
    // twice as fast in iree-org/iree#15089 as well (Ryzen 9 7940HS).
    .init(vendor: amd, family: 0x19, models: [0x10...0x1F, 0x60...0x7F, 0xA0...0xAF], name: "AMD Zen 4", ratio: 2),
    // Of this one only steps were measured for Kinship: ViT-T/16 makes 68.5 pairs/s in bf16, 39.7 in fp32. The ratio is
    // assumed to be like Zen 4's, whose pipes it widens: in antirez/voxtral.c#3 (Ryzen 9800X3D) a loop of dot products
    // that memory limits is 1.55 times as fast as OpenBLAS's fp32.
    .init(vendor: amd, family: 0x1A, models: [0x00...0x2F, 0x40...0x4F, 0x60...0x7F], name: "AMD Zen 5", ratio: 2),
    // Not measured for Kinship. "Bfloat16 theoretical compute throughput is doubled over float32 on Cooper Lake", and
    // ResNet-50, ResNeXt-101 and DLRM train 1.4 to 1.6 times as fast (Intel and Meta, pytorch.org/blog, August 2022).
    // Skylake and Cascade Lake have the same model, and no AVX512_BF16.
    .init(vendor: intel, family: 6, models: [0x55...0x55], name: "Intel Cooper Lake", ratio: 2),
    // 95 GFLOP/s beside 168 for FMAs (SimSIMD, include/simsimd/dots.h). These processors have AMX for bfloat16, which a
    // virtual machine may hide.
    .init(vendor: intel, family: 6, models: [0x8F...0x8F], name: "Intel Sapphire Rapids without AMX", ratio: 0.6),
    // Measured for Kinship where a virtual machine hides AMX, one core: 83–88 GFLOP/s in a loop of dot products beside
    // 120–124 in a loop of FMAs; a real run makes 260 pairs/s in bf16 and 370–425 in fp32. VDPBF16PS is microcoded
    // there (libxsmm/tpp-mlir#1078), and half as fast as fp32 in libxsmm/tpp-mlir#1025.
    .init(vendor: intel, family: 6, models: [0xCF...0xCF], name: "Intel Emerald Rapids without AMX", ratio: 0.7),
    // Not measured for Kinship, and no trustworthy source was found.
    .init(vendor: intel, family: 6, models: [0xAD...0xAE], name: "Intel Granite Rapids without AMX", ratio: nil),
  ]

  func describes(_ processor: Processor) -> Bool {
    vendor == processor.vendor && family == processor.family && models.contains { $0.contains(processor.model) }
  }
}

/// The precision that `precision: auto` takes, and the reason.
struct PrecisionDecision: Codable, Equatable, Sendable {
  var used: ComputePrecision
  /// A clause without a full stop: `AMD Zen 4, whose bf16 dot products run at 2 times the rate of its FMAs`.
  var reason: String
  /// The decision with its reason: `bf16 (auto: AMD Zen 4, whose …)`, and in plain words `bf16: AMD Zen 4, whose …`.
  var text: String { "\(used.rawValue) (auto: \(reason))" }
  var plainText: String { "\(used.rawValue): \(reason)" }
}

extension PrecisionDecision {
  /// Decides for ranks on these processors: bf16 if it is faster on each of them, else fp32 for all.
  init(on ranks: [RankProcessor]) {
    let decisions = ranks.map { PrecisionDecision($0.processor) }
    let exact = decisions.firstIndex { $0.used == .fp32 }
    let reasons = Set(decisions.map(\.reason)).sorted()
    let named = reasons.count > 1 ? exact.map { "host \(ranks[$0].hostname): \(decisions[$0].reason)" } : nil
    self.init(used: exact == nil ? .bf16 : .fp32, reason: named ?? reasons.joined(separator: "; "))
  }

  init(_ processor: Processor) {
    let name = processor.name == Machine.unknownProcessor ? "this processor" : processor.name
    switch processor.products {
    case .amx: self.init(used: .bf16, reason: "\(name) has AMX")
    case nil where processor.hasAMX || processor.hasDotProducts:
      self.init(
        used: .fp32, reason: "oneDNN uses neither AMX nor AVX512_BF16 of \(name), see the variable ONEDNN_MAX_CPU_ISA")
    case nil: self.init(used: .fp32, reason: "\(name) has neither AMX nor AVX512_BF16")
    case .dotProducts:
      guard let known = processor.known, let ratio = known.ratio else {
        let title =
          processor.known?.name
          ?? "the unknown processor \(name) (\(processor.vendor), family \(processor.family), model \(processor.model))"
        self.init(used: .fp32, reason: "the rate of bf16 dot products is not known for \(title)")
        return
      }
      let rate = "bf16 dot products run at \(Figures.significant(ratio, 2)) times the rate of its FMAs"
      self.init(used: ratio < KnownProcessor.leastRatio ? .fp32 : .bf16, reason: "\(known.name), whose \(rate)")
    }
  }

  /// Returns the decision for something that was already begun in a precision: it keeps that precision, so that the
  /// numbers do not change midway, unless a rank cannot compute in it. `recorded` is nil if it was not begun or the
  /// precision is not known; `what` is its name, such as `the run`.
  func keeping(_ recorded: ComputePrecision?, of what: String, on ranks: [RankProcessor]) -> PrecisionDecision {
    guard let recorded, recorded != used else { return self }
    let began = "\(what) was begun in \(recorded.rawValue)"
    if recorded == .bf16, let lacking = ranks.first(where: { $0.processor.products == nil }) {
      let reason = PrecisionDecision(lacking.processor).reason
      return PrecisionDecision(used: .fp32, reason: "\(began), and on host \(lacking.hostname) \(reason)")
    }
    return PrecisionDecision(
      used: recorded, reason: "\(began) and keeps to it; a new one would take \(used.rawValue): \(reason)")
  }
}

/// The precision in which the towers' products read their operands, the same on all ranks.
struct ProductPrecision: Equatable {
  let used: ComputePrecision
  /// The header's line about it; nil if fp32 was asked for.
  var note: String?
  var warnings: [String] = []
}

extension ProductPrecision {
  /// Returns bf16 if `key` of the run file wants it and every rank's processor has such products, else fp32: a rank
  /// with another precision would train another model. Every rank must call it.
  static func agreed(
    _ wanted: ComputePrecision, key: String = "precision", over ranks: Communicator
  ) throws -> ProductPrecision {
    guard wanted == .bf16 else { return ProductPrecision(used: .fp32) }
    return ProductPrecision(wanted, key: key, on: try RankProcessor.all(over: ranks))
  }

  /// Makes the same choice, given the processors of all ranks in rank order.
  init(_ wanted: ComputePrecision, key: String = "precision", on ranks: [RankProcessor]) {
    let without = ranks.firstIndex { $0.processor.products == nil }
    self.init(used: without == nil ? wanted : .fp32)
    guard wanted == .bf16 else { return }
    if let without {
      warnings = [
        "\(key) bf16: the processor of rank \(without) has no products of bfloat16 (AVX-512 bf16 or AMX); "
          + "all ranks compute in fp32, as they do with \(key): auto or fp32"
      ]
      return
    }
    let kinds = Set(ranks.compactMap(\.processor.products?.rawValue)).sorted().joined(separator: " and ")
    note =
      "bf16   the towers' products through oneDNN \(Arithmetic.Library.oneDNN.version) on \(kinds); "
      + "sums, weights, moments and losses in fp32"
    if let slow = ranks.first(where: \.processor.isSlowerRounded) {
      warnings.append(
        "\(key) bf16 is slower than fp32 on host \(slow.hostname): \(PrecisionDecision(slow.processor).reason); "
          + "write \(key): fp32, or auto in a new run")
    }
  }
}
