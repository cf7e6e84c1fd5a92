public import Tensor

extension Tensor where S: Scalar {
  /// Returns a new tensor of numbers between −bound and bound, which depend on its name alone. A tensor of Float holds
  /// the numbers of a tensor of Double, rounded.
  public static func random(_ shape: Shape, _ name: String, bound: Double = 1) -> Tensor {
    let tensor = Tensor(shape)
    var random = KeyedRandom(seed: 7, purpose: name)
    for index in 0..<tensor.count { tensor[index] = S(random.uniform(from: -bound, to: bound)) }
    return tensor
  }

  /// The numbers in Double, as the plain loops of references need them.
  public var doubles: [Double] { array.map { Double($0) } }
}

extension BFloat16Matrix {
  /// The numbers as Floats.
  public var floats: [Float] { array.map { Float(bitPattern: UInt32($0) << 16) } }
}

extension Scalar {
  /// The unit roundoff u, the largest relative error of one rounding: half of the distance from 1 to the next number.
  public static var roundoff: Double { Double(ulpOfOne) / 2 }
}
