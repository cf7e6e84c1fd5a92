internal import CMachine

/// The arithmetic that makes the results of this process: with the same arithmetic, ranks and threads they are the same
/// to the bit. It belongs to the identity of whatever several jobs may compute together, such as a cache or a run.
public struct Arithmetic: Codable, Hashable, Sendable {
  /// A library that rounds, and the instructions that it uses on this processor.
  public struct Library: Codable, Hashable, Sendable {
    public var name: String
    public var version: String
    /// The library's own word for them, such as `avx512_core_amx` (oneDNN) or `SkylakeX` (OpenBLAS).
    public var instructions: String
    public var text: String { "\(name) \(version) (\(instructions))" }
  }

  /// The version of our own kernels. It must be raised whenever one of them rounds in another way than before: sums in
  /// another order, another polynomial, or another library for some of the products.
  public static let currentKernels = 1
  public var kernels: Int
  /// The x86-64 level that our own kernels were compiled for, one of `levels`: sums whose order is left to the compiler
  /// are made in as many lanes as its vectors have. Two builds for one level may still differ if they are tuned for
  /// different processors. It is nil where x86's levels do not apply, and in records of earlier builds.
  public var level: String?
  /// The precision in which the towers' products read their operands.
  public var precision: ComputePrecision
  /// The library that multiplies in single precision.
  public var products: SinglePrecisionProducts
  public var libraries: [Library]

  /// The names of the levels of `kinship_built_level`, as compilers have them.
  public static let levels = ["x86-64", "x86-64-v3", "x86-64-v4"]

  /// Describes this process. Every library counts, because the kinds and sizes of layers decide which of them computes.
  public init(_ precision: ComputePrecision) {
    (kernels, self.precision, products) = (Self.currentKernels, precision, .preferred)
    libraries = [.oneDNN, .openBLAS]
    let built = Int(kinship_built_level())
    level = Self.levels.indices.contains(built) ? Self.levels[built] : nil
  }

  /// The arithmetic as text: `fp32, kernels 1 (x86-64-v3), sgemm by oneDNN, oneDNN 2.6.0 (avx2), OpenBLAS 0.3.21
  /// (Haswell)`.
  public var text: String {
    let own = "kernels \(kernels)" + (level.map { " (\($0))" } ?? "")
    return ([precision.rawValue, own, "sgemm by \(products.rawValue)"] + libraries.map(\.text)).joined(separator: ", ")
  }
}

extension [Arithmetic] {
  /// The different ones among them as text, whatever their order.
  public var text: String { Set(map(\.text)).sorted().joined(separator: " and ") }
}
