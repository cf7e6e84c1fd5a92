import Tensor
import Testing

@Suite struct ShapeTests {
  @Test func sizes() {
    let shape = Shape(2, 3, 5, 7)
    #expect(shape.rank == 4 && shape.count == 210 && shape.rows == 30 && shape.columns == 7)
    #expect(shape.array == [2, 3, 5, 7] && shape[0] == 2 && shape[3] == 7)
    #expect(shape.description == "[2, 3, 5, 7]")
  }

  @Test func aScalarHasOneElement() {
    #expect(Shape().rank == 0 && Shape().count == 1 && Shape().rows == 1 && Shape().columns == 1)
    #expect(Shape() != Shape(1) && Shape(1) != Shape(1, 1))
    #expect(Shape([]) == Shape())
  }

  @Test func fromAList() {
    #expect(Shape([4, 0, 2]) == Shape(4, 0, 2))
    #expect(Shape([4, 0, 2])?.count == 0)
    #expect(Shape([1, 2, 3, 4, 5]) == nil)
    #expect(Shape([1, -1]) == nil)
    #expect(Shape([1 << 32, 1 << 32]) == nil)
    #expect(Shape([1 << 32, 1 << 32, 0]) == nil)
  }

  /// A type that is aligned to more than 16 bytes crashes the allocator of asynchronous functions.
  @Test(arguments: [Shape(2), Shape(2, 3)]) func passesThroughAsynchronousCode(shape: Shape) async {
    #expect(MemoryLayout<Shape>.alignment <= 16)
    await Task.yield()
    #expect(shape[0] == 2)
  }
}
