import COpenBLAS

/// The BLAS library that was loaded.
public enum BLAS {
  /// The processor family whose kernels OpenBLAS runs: `SkylakeX`, `Haswell`, `Prescott`, ….
  public static var kernel: String { String(cString: openblas_get_corename()) }

  /// Release and build options in OpenBLAS's own words.
  public static var configuration: String {
    String(cString: openblas_get_config()).split(separator: " ").joined(separator: " ")
  }

  /// Whether the library holds kernels for several processors and chooses when it is loaded.
  public static var choosesKernel: Bool { configuration.split(separator: " ").contains("DYNAMIC_ARCH") }

  /// How many threads a matrix product may use.
  public static var threads: Int { Int(openblas_get_num_threads()) }
}
