import Foundation
import Tensor
import Testing

@testable import Launch

@Suite struct ArithmeticTests {
  private static func arithmetic(_ core: String) -> Arithmetic {
    var made = Arithmetic(.bf16)
    (made.kernels, made.level, made.products) = (7, "x86-64-v4", .oneDNN)
    (made.libraries[0].version, made.libraries[0].instructions) = ("2.6.0", "avx512_core_amx")
    (made.libraries[1].version, made.libraries[1].instructions) = ("0.3.21", core)
    return made
  }

  private let sky = Self.arithmetic("SkylakeX")
  private let zen = Self.arithmetic("Zen")
  private static let common =
    "bf16, kernels 7 (x86-64-v4), sgemm by oneDNN, oneDNN 2.6.0 (avx512_core_amx), OpenBLAS 0.3.21"

  /// Caches and checkpoints keep this form.
  @Test func textAndJSON() throws {
    #expect(sky.text == "\(Self.common) (SkylakeX)")
    let json = #"""
      {"kernels":7,"level":"x86-64-v4","libraries":[\#
      {"instructions":"avx512_core_amx","name":"oneDNN","version":"2.6.0"},\#
      {"instructions":"Zen","name":"OpenBLAS","version":"0.3.21"}],"precision":"bf16","products":"oneDNN"}
      """#
    #expect(try zen.jsonText() == json)
    #expect(try JSONDecoder().decode(Arithmetic.self, from: Data(json.utf8)) == zen)
    // Earlier builds have not recorded the level.
    let earlier = json.replacing(#""level":"x86-64-v4","#, with: "")
    let decoded = try JSONDecoder().decode(Arithmetic.self, from: Data(earlier.utf8))
    #expect(decoded.level == nil && decoded.text == zen.text.replacing(" (x86-64-v4)", with: "") && decoded != zen)
  }

  @Test func thatOfThisProcess() {
    let own = Arithmetic(.fp32).text
    let level = Machine.builtLevel.map { " (\($0.name))" } ?? ""
    let form = /fp32, kernels \d+, sgemm by (oneDNN|OpenBLAS), oneDNN [0-9.]+ \([a-z0-9_]+\), OpenBLAS \d+\.\S+ \(\w+\)/
    #expect(own.contains(/kernels \d+/) && own.contains("\(level), sgemm by"), "\(own)")
    #expect(own.replacing("\(level), ", with: ", ").wholeMatch(of: form) != nil, "\(own)")
    #expect(own.hasSuffix(" (\(BLAS.kernel))"), "\(own)")
    #expect(Arithmetic(.fp32) == Arithmetic(.fp32) && Arithmetic(.fp32) != Arithmetic(.bf16))
  }

  @Test func ranksThatDiffer() {
    #expect([sky].warning == nil && [sky].text == sky.text)
    #expect([zen, sky, zen].text == "\(sky.text) and \(zen.text)" && [sky, zen].text == [zen, sky].text)
    #expect(
      [zen, sky, zen].warning
        == "ranks differ in their arithmetic (\(zen.text) on ranks 0, 2; \(sky.text) on rank 1): only the same ranks "
        + "on the same kinds of processors give the same bits again")
  }

  @Test func differences() {
    #expect([sky].difference(from: nil) == nil && [sky, zen].difference(from: [sky, zen]) == nil)
    #expect([sky].difference(from: [zen]) == "the arithmetic was \(zen.text) and is \(sky.text)")
    let both = [sky, zen].text
    #expect([zen].difference(from: [sky, zen]) == "the arithmetic was \(both) and is \(zen.text)")
    #expect([zen, sky].difference(from: [sky, zen]) == "the arithmetic was \(both) and is \(both), on other ranks")
    var newer = zen
    newer.kernels += 1
    #expect([newer].difference(from: [zen])?.hasSuffix(" and is \(newer.text)") == true)
  }
}
