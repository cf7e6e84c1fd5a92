import Foundation
import Tensor

/// What a process holds that is not the run's own: Swift, MPI, BLAS, HDF5, the vocabulary and the index of the data.
enum ProgramMemory {
  /// What the exchange of buckets takes: pieces that are laid out for MPI, its own copies of them, and the memory
  /// through which ranks of a node talk. Measured on 2 ranks of a node, of 0.3 to 389 MiB of gradients.
  static func messages(of gradients: Int) -> Int { min(24 << 20, 3 * gradients) }

  /// What oneDNN makes to multiply rounded numbers: code for each size that it meets, 0.02 to 0.5 MiB. Measured on 2
  /// ranks with packed captions.
  static let roundedProducts = 12 << 20

  /// Bytes that are resident now, once BLAS has the memory in which it lays out operands. To be asked for when the
  /// inputs of a run are there and its model is not.
  static func measure() -> Int {
    let (rows, inner, columns) = (64, 512, 2048)
    matmul(
      Tensor<Float>(Shape(rows, inner)), Tensor<Float>(Shape(inner, columns)), into: Tensor<Float>(Shape(rows, columns))
    )
    return Int(ProcessMemory.now * 1_048_576)
  }
}
