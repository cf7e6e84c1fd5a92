public import Tensor

extension Tensor {
  /// A new tensor of numbers between −bound and bound, a function of its name alone. As Float it holds the same numbers
  /// as Double does, rounded.
  public static func random(_ shape: Shape, _ name: String, bound: Double = 1) -> Tensor {
    let tensor = Tensor(shape)
    var random = KeyedRandom(seed: 7, purpose: name)
    for index in 0..<tensor.count { tensor[index] = S(random.uniform(-bound, bound)) }
    return tensor
  }

  /// The numbers, as the plain loops of references take them.
  public var doubles: [Double] { array.map { Double($0) } }
}

extension Scalar {
  /// u: half the distance of 1 to the next number, which is what one rounding may cost.
  public static var roundoff: Double { Double(ulpOfOne) / 2 }
}
