import Tensor
import TestSupport
import Testing

@Suite struct BitHashTests {
  /// Sizes around and beyond the block that is hashed together.
  @Test(arguments: [0, 1, 15, 63, 64, 65, 200, 1000]) func everyBitCounts(count: Int) {
    let x = Tensor<Float>.random(Shape(count), "hash")
    let whole = bitHash(x)
    #expect(bitHash(Tensor(Shape(count), x.array)) == whole)
    var seen: Set<UInt64> = [whole]
    for index in 0..<count {
      let number = x[index]
      for bit in [0, 7, 22, 23, 31] {
        x[index] = Float(bitPattern: number.bitPattern ^ 1 << bit)
        #expect(seen.insert(bitHash(x)).inserted, "bit \(bit) of \(index)")
      }
      x[index] = number
    }
    #expect(bitHash(x) == whole)
  }

  /// Finds changes that cancel in a sum or in a chain of exclusive ors.
  @Test func placesAndSignsCount() {
    let x = Tensor<Double>.random(Shape(96), "hash")
    let whole = bitHash(x)
    for (one, other) in [(0, 1), (0, 32), (3, 67), (64, 95)] {
      let (a, b) = (x[one], x[other])
      (x[one], x[other]) = (b, a)
      #expect(bitHash(x) != whole)
      (x[one], x[other]) = (-a, -b)
      #expect(bitHash(x) != whole)
      (x[one], x[other]) = (a, b)
    }
    #expect(bitHash(Tensor<Float>(Shape(2), [0, 0])) != bitHash(Tensor<Float>(Shape(2), [0, -0.0])))
    #expect(bitHash(Tensor<Float>(Shape(2))) != bitHash(Tensor<Float>(Shape(3))))
  }
}
