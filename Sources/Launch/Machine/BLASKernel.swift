/// Which OpenBLAS kernels suit a processor.
///
/// OpenBLAS chooses by a list of model numbers that ends with its release: a newer processor gets what the list says
/// last, often kernels of half or a quarter of the speed.
enum BLASKernel {
  /// Vector instructions that processor and operating system offer, or that kernels are written for.
  enum Level: Int, Comparable, Sendable, Codable {
    case baseline, avx2, avx512

    static func < (a: Level, b: Level) -> Bool { a.rawValue < b.rawValue }

    /// How the level is called in compilers' options.
    var name: String {
      switch self {
      case .baseline: "x86-64"
      case .avx2: "x86-64-v3"
      case .avx512: "x86-64-v4"
      }
    }
  }

  /// What the environment must become before the program starts anew.
  enum Change: Equatable, Sendable {
    case set(String)
    case unset
  }

  static let variable = "OPENBLAS_CORETYPE"

  /// The level of a kernel by OpenBLAS's name; nil for one that is not known here, which is left alone.
  static func level(of kernel: String) -> Level? {
    switch kernel.lowercased() {
    case "skylakex", "cooperlake", "sapphirerapids": .avx512
    case "haswell", "zen", "excavator": .avx2
    case "prescott", "core2", "penryn", "dunnington", "nehalem", "sandybridge", "atom", "nano", "katmai",
      "coppermine", "northwood", "banias", "athlon", "opteron", "opteron_sse3", "barcelona", "bobcat", "bulldozer",
      "piledriver", "steamroller":
      .baseline
    default: nil
    }
  }

  /// The change that gives OpenBLAS better kernels, or nil if it has what it should have.
  ///
  /// - Parameters:
  ///   - kernel: what OpenBLAS has picked.
  ///   - processor: what the processor can do.
  ///   - given: the environment's `OPENBLAS_CORETYPE`. A value is the user's choice and wins. An empty value, which
  ///     OpenBLAS takes for a name it does not know, counts as none.
  static func change(kernel: String, processor: Level, given: String?) -> Change? {
    if let given { return given.isEmpty ? .unset : nil }
    guard let level = level(of: kernel), level < processor else { return nil }
    return .set(best(for: processor))
  }

  /// The kernels for a level. SkylakeX stands for all of AVX-512: later ones add only number formats to it.
  static func best(for processor: Level) -> String {
    switch processor {
    case .avx512: "SkylakeX"
    case .avx2: "Haswell"
    case .baseline: "Prescott"
    }
  }
}
