import CMachine
import Dist
import Tensor

/// The properties of a processor that decide the rate of its bfloat16 products.
struct Processor: Codable, Equatable, Sendable {
  /// The instructions that multiply bfloat16, in oneDNN's order of preference.
  enum Products: String, Codable, Sendable {
    case amx = "AMX"
    case dotProducts = "AVX-512 bf16"
  }

  /// The name, by the kernel.
  var name: String
  /// CPUID's vendor, such as `GenuineIntel` or `AuthenticAMD`; empty on processors without CPUID.
  var vendor: String
  var family: Int
  var model: Int
  var stepping: Int
  /// True if processor and operating system offer AVX512_BF16.
  var hasDotProducts: Bool
  /// True if processor and operating system offer AMX with bfloat16.
  var hasAMX: Bool
  /// The instructions that oneDNN uses here, which `ONEDNN_MAX_CPU_ISA` may restrict; nil if it uses neither.
  var products: Products?

  /// The processor under this process.
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
///
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

  static let all: [KnownProcessor] = [
    // Measured for Kinship, one thread: oneDNN 2.6 gives 187–213 GFLOP/s in bf16, fp32 products give 89–105. bf16 is
    // twice as fast in iree-org/iree#15089 as well (Ryzen 9 7940HS).
    KnownProcessor(
      vendor: "AuthenticAMD", family: 0x19, models: [0x10...0x1F, 0x60...0x7F, 0xA0...0xAF], name: "AMD Zen 4",
      ratio: 2),
    // Not measured for Kinship; assumed to be like Zen 4, whose pipes it widens: in antirez/voxtral.c#3 (Ryzen 9800X3D)
    // a loop of dot products that memory limits is 1.55 times as fast as OpenBLAS's fp32.
    KnownProcessor(
      vendor: "AuthenticAMD", family: 0x1A, models: [0x00...0x2F, 0x40...0x4F, 0x60...0x7F], name: "AMD Zen 5",
      ratio: 2),
    // Not measured for Kinship. "Bfloat16 theoretical compute throughput is doubled over float32 on Cooper Lake", and
    // ResNet-50, ResNeXt-101 and DLRM train 1.4 to 1.6 times as fast (Intel and Meta, pytorch.org/blog, August 2022).
    // Skylake and Cascade Lake have the same model, and no AVX512_BF16.
    KnownProcessor(vendor: "GenuineIntel", family: 6, models: [0x55...0x55], name: "Intel Cooper Lake", ratio: 2),
    // 95 GFLOP/s beside 168 for FMAs (SimSIMD, include/simsimd/dots.h). These processors have AMX for bfloat16, which a
    // virtual machine may hide.
    KnownProcessor(
      vendor: "GenuineIntel", family: 6, models: [0x8F...0x8F], name: "Intel Sapphire Rapids without AMX", ratio: 0.6),
    // Measured for Kinship where a virtual machine hides AMX, one core: 83–88 GFLOP/s in a loop of dot products beside
    // 120–124 in a loop of FMAs; a real run makes 260 pairs/s in bf16 and 370–425 in fp32. VDPBF16PS is microcoded
    // there (libxsmm/tpp-mlir#1078), and half as fast as fp32 in libxsmm/tpp-mlir#1025.
    KnownProcessor(
      vendor: "GenuineIntel", family: 6, models: [0xCF...0xCF], name: "Intel Emerald Rapids without AMX", ratio: 0.7),
    // Not measured for Kinship, and no trustworthy source was found.
    KnownProcessor(
      vendor: "GenuineIntel", family: 6, models: [0xAD...0xAE], name: "Intel Granite Rapids without AMX", ratio: nil),
  ]

  func describes(_ processor: Processor) -> Bool {
    vendor == processor.vendor && family == processor.family && models.contains { $0.contains(processor.model) }
  }
}
