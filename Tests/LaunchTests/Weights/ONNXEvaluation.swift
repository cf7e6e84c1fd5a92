import Foundation
import ONNXFormat
import Testing

/// An array of numbers, row-major. Whole numbers and truth values are held as numbers too.
struct ONNXArray {
  let shape: [Int]
  let values: [Double]

  /// The distance between neighbours along each axis.
  var strides: [Int] {
    var strides = [Int](repeating: 1, count: shape.count)
    for axis in shape.indices.dropLast().reversed() { strides[axis] = strides[axis + 1] * shape[axis + 1] }
    return strides
  }

  /// Returns the array of a shape whose neighbours along each axis lie this far apart in this one.
  func view(_ shape: [Int], strides: [Int], from start: Int = 0) -> ONNXArray {
    let found = (0..<shape.reduce(1, *)).map { index -> Double in
      var (rest, place) = (index, start)
      for axis in shape.indices.reversed() {
        place += rest % shape[axis] * strides[axis]
        rest /= shape[axis]
      }
      return values[place]
    }
    return ONNXArray(shape: shape, values: found)
  }

  /// Returns this array repeated along the axes that it lacks, or along which it has one element.
  func broadcast(to target: [Int]) -> ONNXArray {
    var steps = [Int](repeating: 0, count: target.count)
    for (axis, step) in strides.enumerated() where shape[axis] > 1 { steps[target.count - shape.count + axis] = step }
    return view(target, strides: steps)
  }
}

extension ONNXFound {
  /// Computes the output of a graph with weights of 32 bits from its one input, in Double.
  func output(of input: ONNXArray) throws -> ONNXArray {
    var arrays = [model.graph.input[0].name: input]
    for tensor in model.graph.initializer {
      let name = tensor.name
      let values = try tensor.dataType == 7 ? integers(name).map { Double($0) } : floats(name).map { Double($0) }
      arrays[name] = ONNXArray(shape: try sizes(name), values: values)
    }
    for node in model.graph.node {
      var inputs: [ONNXArray] = []
      for name in node.input {
        let array = try #require(arrays[name], "\(node.name) reads \(name)")
        inputs.append(array)
      }
      let outputs = try ONNXOperator(node: node, x: inputs).outputs()
      try #require(outputs.count == node.output.count, "\(node.name)")
      for (name, array) in zip(node.output, outputs) { arrays[name] = array }
    }
    let name = model.graph.output[0].name
    return try #require(arrays[name], "no node computes \(name)")
  }
}

/// A node of a graph as ONNX's specification defines its operator, as far as our graphs with weights of 32 bits use it.
/// Shapes that do not fit are errors.
struct ONNXOperator {
  let node: Onnx_NodeProto
  let x: [ONNXArray]

  struct Problem: Error, CustomStringConvertible { let description: String }

  func outputs() throws -> [ONNXArray] {
    switch node.opType {
    case "Add": return try [both(+)]
    case "Mul": return try [both(*)]
    case "Div": return try [both(/)]
    case "Max": return try [both { max($0, $1) }]
    case "Greater": return try [both { $0 > $1 ? 1 : 0 }]
    case "Where": return try [chosen()]
    case "Relu": return [each { max($0, 0) }]
    case "Erf": return [each { erf($0) }]
    case "Sigmoid": return [each { 1 / (1 + exp(-$0)) }]
    case "Softmax": return try [softmax()]
    case "LayerNormalization": return try [layerNorm()]
    case "MatMul": return try [product()]
    case "Conv": return try [convolution()]
    case "AveragePool": return try [averagePool()]
    case "ReduceMean": return try [reduced(along: axes()) { row in row.reduce(0, +) / Double(row.count) }]
    case "ReduceL2":
      return try [reduced(along: axes()) { row in row.reduce(0.0) { $0 + $1 * $1 }.squareRoot() }]
    case "ArgMax":
      return try [reduced(along: integer("axis")) { row in Double(row.firstIndex(of: row.max() ?? 0) ?? 0) }]
    case "Shape": return [ONNXArray(shape: [x[0].shape.count], values: x[0].shape.map { Double($0) })]
    case "Range": return [range()]
    case "Reshape": return try [reshaped()]
    case "Transpose": return try [transposed()]
    case "Expand": return try [x[0].broadcast(to: common(x[0].shape, whole(1)))]
    case "Unsqueeze": return [unsqueezed()]
    case "Slice": return try [part(whole(1)[0]..<whole(2)[0], along: x.count > 3 ? whole(3)[0] : 0)]
    case "Split": return try split()
    case "Concat": return try [concatenated()]
    case "Gather": return try [gathered()]
    case "GatherND": return try [gatheredRows()]
    default: throw Problem(description: "\(node.name): the operator \(node.opType) is not known here")
    }
  }
}

// MARK: Attributes and checks

extension ONNXOperator {
  private func require(_ fact: Bool, _ problem: @autoclosure () -> String) throws {
    if !fact { throw Problem(description: "\(node.name) of \(x.map(\.shape)): \(problem())") }
  }

  private func integers(_ name: String) -> [Int]? {
    node.attribute.first { $0.name == name }?.ints.map { Int($0) }
  }

  private func integer(_ name: String) throws -> Int {
    let found = node.attribute.first { $0.name == name }
    guard let found else { throw Problem(description: "\(node.name) lacks \(name)") }
    return Int(found.i)
  }

  /// Returns the one axis along which numbers are reduced.
  private func axes() throws -> Int {
    let (found, stays) = (integers("axes") ?? [], try integer("keepdims"))
    try require(found.count == 1 && stays == 1, "one axis that stays is expected, found \(found)")
    return found[0]
  }

  /// Returns an input of whole numbers, such as a shape.
  private func whole(_ index: Int) -> [Int] { x[index].values.map { Int($0) } }

  /// Returns the shape to which arrays of both shapes are broadcast.
  private func common(_ one: [Int], _ other: [Int]) throws -> [Int] {
    let rank = max(one.count, other.count)
    let sizes = [one, other].map { [Int](repeating: 1, count: rank - $0.count) + $0 }
    return try zip(sizes[0], sizes[1]).map { a, b -> Int in
      try require(a == b || a == 1 || b == 1, "\(one) and \(other) do not fit")
      return a == 1 ? b : a
    }
  }
}

// MARK: Operators

extension ONNXOperator {
  private func each(_ operation: (Double) -> Double) -> ONNXArray {
    ONNXArray(shape: x[0].shape, values: x[0].values.map { operation($0) })
  }

  private func both(_ operation: (Double, Double) -> Double) throws -> ONNXArray {
    let shape = try common(x[0].shape, x[1].shape)
    let (a, b) = (x[0].broadcast(to: shape), x[1].broadcast(to: shape))
    return ONNXArray(shape: shape, values: zip(a.values, b.values).map { operation($0, $1) })
  }

  private func chosen() throws -> ONNXArray {
    let shape = try common(common(x[0].shape, x[1].shape), x[2].shape)
    let all = x.map { $0.broadcast(to: shape).values }
    return ONNXArray(shape: shape, values: all[0].indices.map { all[0][$0] != 0 ? all[1][$0] : all[2][$0] })
  }

  /// Returns the rows along the last axis, each replaced by as many numbers.
  private func rows(_ operation: (ArraySlice<Double>) -> [Double]) -> ONNXArray {
    let width = x[0].shape.last ?? 1
    var values: [Double] = []
    for row in 0..<x[0].values.count / width { values += operation(x[0].values[row * width..<(row + 1) * width]) }
    return ONNXArray(shape: x[0].shape, values: values)
  }

  private func softmax() throws -> ONNXArray {
    try require(integer("axis") == -1, "the last axis is expected")
    return rows { row in
      let largest = row.max() ?? 0
      let powers = row.map { exp($0 - largest) }
      let sum = powers.reduce(0, +)
      return powers.map { $0 / sum }
    }
  }

  private func layerNorm() throws -> ONNXArray {
    let width = x[0].shape.last ?? 1
    let epsilon = Double(node.attribute.first { $0.name == "epsilon" }?.f ?? 0)
    try require(integer("axis") == -1, "the last axis is expected")
    try require(x[1].shape == [width] && x[2].shape == [width], "weight and bias of \(width) numbers are expected")
    let (weight, bias) = (x[1].values, x[2].values)
    return rows { row in
      let mean = row.reduce(0, +) / Double(width)
      let variance = row.reduce(0.0) { $0 + ($1 - mean) * ($1 - mean) } / Double(width)
      let scale = 1 / (variance + epsilon).squareRoot()
      return row.enumerated().map { column, number in (number - mean) * scale * weight[column] + bias[column] }
    }
  }

  private func product() throws -> ONNXArray {
    let (one, other) = (x[0].shape, x[1].shape)
    try require(one.count > 1 && other.count > 1, "matrices are expected")
    let (m, k, n) = (one[one.count - 2], one[one.count - 1], other[other.count - 1])
    try require(other[other.count - 2] == k, "\(k) rows are expected")
    let outer = try common(Array(one.dropLast(2)), Array(other.dropLast(2)))
    let (a, b) = (x[0].broadcast(to: outer + [m, k]).values, x[1].broadcast(to: outer + [k, n]).values)
    var values: [Double] = []
    for item in 0..<outer.reduce(1, *) {
      for row in 0..<m {
        for column in 0..<n {
          var sum = 0.0
          for inner in 0..<k { sum += a[(item * m + row) * k + inner] * b[(item * k + inner) * n + column] }
          values.append(sum)
        }
      }
    }
    return ONNXArray(shape: outer + [m, n], values: values)
  }

  private func convolution() throws -> ONNXArray {
    let (image, kernel) = (x[0].shape, x[1].shape)
    try require(image.count == 4 && kernel.count == 4 && image[1] == kernel[1], "channels do not fit")
    let (c, h, w, size) = (image[1], image[2], image[3], kernel[2])
    try require(integers("kernel_shape") == [size, size] && kernel[3] == size, "a square kernel is expected")
    let (stride, border) = (integers("strides")?.first ?? 1, integers("pads")?.first ?? 0)
    let bias = x.count > 2 ? x[2].values : [Double](repeating: 0, count: kernel[0])
    try require(bias.count == kernel[0], "\(kernel[0]) biases are expected")
    let (pixels, weights) = (x[0].values, x[1].values)
    func point(_ item: Int, _ output: Int, top: Int, left: Int) -> Double {
      var sum = bias[output]
      for channel in 0..<c {
        for row in max(top, 0)..<min(top + size, h) {
          for column in max(left, 0)..<min(left + size, w) {
            let pixel = ((item * c + channel) * h + row) * w + column
            let weight = ((output * c + channel) * size + row - top) * size + column - left
            sum += pixels[pixel] * weights[weight]
          }
        }
      }
      return sum
    }
    let (rows, columns) = ((h + 2 * border - size) / stride + 1, (w + 2 * border - size) / stride + 1)
    var values: [Double] = []
    for item in 0..<image[0] {
      for output in 0..<kernel[0] {
        for row in 0..<rows {
          for column in 0..<columns {
            values.append(point(item, output, top: row * stride - border, left: column * stride - border))
          }
        }
      }
    }
    return ONNXArray(shape: [image[0], kernel[0], rows, columns], values: values)
  }

  private func averagePool() throws -> ONNXArray {
    let (shape, pixels) = (x[0].shape, x[0].values)
    try require(
      shape.count == 4 && integers("kernel_shape") == [2, 2] && integers("strides") == [2, 2],
      "squares of two pixels a side are expected")
    let (h, w) = (shape[2], shape[3])
    var values: [Double] = []
    for plane in 0..<shape[0] * shape[1] {
      for row in 0..<h / 2 {
        for column in 0..<w / 2 {
          let first = (plane * h + 2 * row) * w + 2 * column
          let sum = [first, first + 1, first + w, first + w + 1].reduce(0.0) { $0 + pixels[$1] }
          values.append(sum / 4)
        }
      }
    }
    return ONNXArray(shape: [shape[0], shape[1], h / 2, w / 2], values: values)
  }

  /// Returns one number for all along an axis, which stays with the size 1.
  private func reduced(along axis: Int, _ operation: ([Double]) -> Double) -> ONNXArray {
    var shape = x[0].shape
    let axis = axis < 0 ? axis + shape.count : axis
    let (size, step) = (shape[axis], x[0].strides[axis])
    shape[axis] = 1
    let values = (0..<shape.reduce(1, *)).map { index -> Double in
      let first = index / step * step * size + index % step
      return operation((0..<size).map { x[0].values[first + $0 * step] })
    }
    return ONNXArray(shape: shape, values: values)
  }
}

// MARK: Shapes and places

extension ONNXOperator {
  private func range() -> ONNXArray {
    let values = Array(stride(from: x[0].values[0], to: x[1].values[0], by: x[2].values[0]))
    return ONNXArray(shape: [values.count], values: values)
  }

  /// A size of 0 stays as it was, and one of −1 takes what is left.
  private func reshaped() throws -> ONNXArray {
    var shape = whole(1).enumerated().map { axis, size in size == 0 ? x[0].shape[axis] : size }
    if let open = shape.firstIndex(of: -1) {
      shape[open] = 1
      shape[open] = x[0].values.count / shape.reduce(1, *)
    }
    try require(shape.reduce(1, *) == x[0].values.count, "\(shape) has another number of elements")
    return ONNXArray(shape: shape, values: x[0].values)
  }

  private func transposed() throws -> ONNXArray {
    let (order, strides) = (integers("perm") ?? [], x[0].strides)
    try require(order.sorted() == Array(x[0].shape.indices), "\(order) is no order of the axes")
    return x[0].view(order.map { x[0].shape[$0] }, strides: order.map { strides[$0] })
  }

  private func unsqueezed() -> ONNXArray {
    var shape = x[0].shape
    for axis in whole(1).sorted() { shape.insert(1, at: axis) }
    return ONNXArray(shape: shape, values: x[0].values)
  }

  private func part(_ range: Range<Int>, along axis: Int) throws -> ONNXArray {
    var shape = x[0].shape
    let axis = axis < 0 ? axis + shape.count : axis
    try require(range.upperBound <= shape[axis], "\(range) is beyond the axis \(axis)")
    shape[axis] = range.count
    return x[0].view(shape, strides: x[0].strides, from: range.lowerBound * x[0].strides[axis])
  }

  private func split() throws -> [ONNXArray] {
    let axis = try integer("axis")
    var (parts, start): ([ONNXArray], Int) = ([], 0)
    for size in whole(1) {
      parts.append(try part(start..<start + size, along: axis))
      start += size
    }
    try require(start == x[0].shape[axis < 0 ? axis + x[0].shape.count : axis], "the parts have \(start) in all")
    return parts
  }

  private func concatenated() throws -> ONNXArray {
    let axis = try integer("axis")
    var shape = x[0].shape
    for array in x.dropFirst() {
      var other = array.shape
      try require(other.count == shape.count, "the same axes are expected")
      shape[axis] += other[axis]
      other[axis] = shape[axis]
      try require(other == shape, "the same sizes are expected along all axes but \(axis)")
    }
    let outer = shape[..<axis].reduce(1, *)
    var values: [Double] = []
    for row in 0..<outer {
      for array in x {
        let size = array.values.count / outer
        values += array.values[row * size..<(row + 1) * size]
      }
    }
    return ONNXArray(shape: shape, values: values)
  }

  /// Returns the rows of a table, or the numbers of a vector, at the places that the second input has.
  private func gathered() throws -> ONNXArray {
    try require(integer("axis") == 0, "the first axis is expected")
    let size = x[0].shape.dropFirst().reduce(1, *)
    var values: [Double] = []
    for row in whole(1) {
      try require(0..<x[0].shape[0] ~= row, "there is no row \(row)")
      values += x[0].values[row * size..<(row + 1) * size]
    }
    return ONNXArray(shape: x[1].shape + Array(x[0].shape.dropFirst()), values: values)
  }

  /// Returns one row of each sequence, [b, n, w] → [b, 1, w].
  private func gatheredRows() throws -> ONNXArray {
    let shape = x[0].shape
    let shared = try integer("batch_dims")
    try require(
      shared == 1 && shape.count == 3 && x[1].shape == [shape[0], 1, 1], "one row of each sequence is expected")
    var values: [Double] = []
    for (item, row) in whole(1).enumerated() {
      let first = (item * shape[1] + row) * shape[2]
      values += x[0].values[first..<first + shape[2]]
    }
    return ONNXArray(shape: [shape[0], 1, shape[2]], values: values)
  }
}
