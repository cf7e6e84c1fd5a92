import Model
import Tensor
import Testing

@Suite struct PositionResizeTests {
  /// Numbers of open_clip 3.3.0 on torch 2.13, for positions ((7 row + 3 channel) mod 11 − 5) / 4 with two channels:
  /// `resize_pos_embed({"visual.positional_embedding": positions}, model)`, where `model.visual.grid_size` is (G, G).
  @Test(
    arguments: [
      (
        3, 5,
        [
          -1.25, -0.5, 0.5943395, 1.34434, 0.0897634, 0.9628978, -0.4811321, 0.2688679, 0.6102861, -0.425162, 1.400943,
          -0.8066037, 0.4989791, 1.248979, -0.005597054, 0.8675373, -0.5764925, 0.1735075, 0.5149256, -0.5205225,
          1.305583, -0.9019642, 0.3254717, 1.075472, -0.1791045, 0.6940299, -0.75, 0.0, 0.3414182, -0.6940299, 1.132075,
          -1.075472, 0.1519642, 0.9019641, -0.352612, 0.5205224, -0.9235075, -0.1735075, 0.1679107, -0.8675374,
          0.9585679, -1.248979, 0.05660374, 0.8066037, -0.4479724, 0.4251619, -1.018868, -0.2688679, 0.07255026,
          -0.9628978, 0.8632075, -1.344339,
        ]
      ),
      (
        5, 3,
        [
          -1.25, -0.5, 0.2853254, 0.3935502, 0.2049195, -0.2188729, -0.09686386, 0.1526035, -0.1462969, -0.02500895,
          -0.01966466, 0.1081125, 0.4285152, -0.152898, -0.4026034, -0.1531361, -0.09094814, 0.4797851, 0.2963312,
          -0.5353253,
        ]
      ),
      (
        4, 2,
        [-1.25, -0.5, 0.1264557, 0.04249624, 0.09104995, 0.1358471, 0.2252536, -0.3207645, -0.2722107, 0.3809636]
      ),
    ] as [(Int, Int, [Float])])
  func equalsOpenCLIP(grid: Int, wanted: Int, expected: [Float]) {
    let positions = Tensor<Float>(Shape(1 + grid * grid, 2))
    for row in 0..<positions.rows {
      for channel in 0..<2 {
        let step: Int = (row * 7 + channel * 3) % 11 - 5
        positions[row * 2 + channel] = Float(step) / 4
      }
    }
    let resized = resizedPositions(positions, to: wanted)
    #expect(resized.shape == Shape(1 + wanted * wanted, 2))
    for (found, number) in zip(resized.array, expected) { #expect(abs(found - number) < 1e-6) }
    #expect(resizedPositions(positions, to: grid).array == positions.array)
  }
}
