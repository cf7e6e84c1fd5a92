import Tensor
import Testing

@Suite struct LittleEndianTests {
  @Test func numbersBeginWithTheirLowestByte() {
    let (word, negative): (UInt32, Int16) = (0x0102_0304, -2)
    #expect(word.littleEndianBytes == [4, 3, 2, 1] && negative.littleEndianBytes == [0xFE, 0xFF])
    let numbers: [Int16] = [1, -1]
    #expect(numbers.littleEndianBytes == [1, 0, 0xFF, 0xFF])
    let bytes: [UInt8] = [9, 2, 3, 4, 9]
    #expect(bytes.little(3, at: 1) == 0x04_0302 && bytes.little(0, at: 5) == 0)
    #expect(word.littleEndianBytes.little(4, at: 0) == UInt64(word))
  }
}
