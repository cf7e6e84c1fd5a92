import CMachine
import Dispatch
import Tensor

/// The instructions by which this processor multiplies and adds, whose rate no matrix product can exceed. Raw values
/// are the numbers of CMachine's loops, which have registers as their only operands.
enum MultiplyAdds: Int32 {
  case fmas256 = 1
  case fmas512, dotProducts, tiles

  /// Finds the instructions of a precision, also those that `ONEDNN_MAX_CPU_ISA` withholds from oneDNN; nil if the
  /// processor has none or no loop of them is written.
  init?(_ precision: ComputePrecision) {
    let processor = kinship_identify_processor()
    switch precision {
    case .fp32: self.init(rawValue: kinship_vector_level())
    case .bf16 where processor.amx != 0: self = .tiles
    case .bf16 where processor.dot_products != 0: self = .dotProducts
    case .bf16: return nil
    }
  }

  var name: String {
    switch self {
    case .fmas256: "256-bit FMAs"
    case .fmas512: "512-bit FMAs"
    case .dotProducts: "AVX-512 bf16 dot products"
    case .tiles: "AMX tiles"
    }
  }

  /// Measures the operations per second of independent multiply-adds on some threads, for at least `seconds`; nil if
  /// the system does not let this process use them.
  func rate(threads: Int, seconds: Double = 0.05) -> Double? {
    let (loop, rounds) = (rawValue, 100_000)
    let operations = kinship_multiply_add(loop, rounds)
    guard operations > 0 else { return nil }
    func run() { DispatchQueue.concurrentPerform(iterations: threads) { _ in _ = kinship_multiply_add(loop, rounds) } }
    // The first run starts the threads.
    run()
    return Double(threads) * operations / meanSeconds(during: seconds, run)
  }
}
