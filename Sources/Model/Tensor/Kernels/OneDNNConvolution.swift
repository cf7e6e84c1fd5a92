internal import COneDNN

// Convolutions by oneDNN's primitives. Rows are points with channels last (see Plane). The primitives of 3 × 3 choose
// their layouts, such as blocks of channels. Each image is reordered to these and back while it is in the cache, which
// costs 2 to 12 % of the convolution, so that all other kernels keep to rows.

extension ConvolutionSizes {
  /// True if in fp32 a primitive computes the output, or the gradient of the input, faster than products. RN50's
  /// convolutions on one core of a Zen 4 with AVX2, in GFLOP/s with unfolding or reorders, products first: 3 × 3
  /// forward 77 and 84, gradients of inputs 77 and 85; 1 × 1 forward 77 and 82, gradients of inputs 77 and 76. On
  /// planes of 7 × 7 products are faster, 80 and 76, as they are for gradients of weights, 78 and 72. Neither 1 × 1
  /// with AVX-512 nor any primitive in bf16 was measured. Threads share out whole images: enough to keep all of them
  /// busy, and to take far more memory than the room of each.
  public func usesPrimitive<S: Scalar>(_: S.Type, threads: Int = Threads.count, isBackward: Bool = false) -> Bool {
    let (each, rest) = plane.images.quotientAndRemainder(dividingBy: threads)
    guard S.self == Float.self, OneDNN.hasConvolutions, output.points >= 100,
      threads == 1 || each >= 8 || (each >= 4 && rest == 0)
    else { return false }
    return size == 3 || (!isBackward && !OneDNN.has(dnnl_cpu_isa_avx512_core))
  }

  /// Returns the numbers of room that `convolve` needs, or `convolveBackward`, on this many threads.
  public func room(threads: Int, isBackward: Bool = false) -> Int {
    let form = OneDNN.ConvolutionForm(self, isBackward: isBackward)
    let (weight, image) = OneDNN.lend(threads: 1) { oneDNN in
      let code = oneDNN.code(form)
      return (code.weight.bytes, code.imageBytes)
    }
    return (weight + min(threads, plane.images) * image) / MemoryLayout<Float>.stride
  }
}

/// y = weight ∗ x, for x [points, inputs], weight [outputs, inputs, size, size] and y [output points, outputs]. Calls
/// `finish` with the rows of each image once they are complete, and with a grain that keeps kernels on its thread.
public func convolve<S: Scalar>(
  _ x: Tensor<S>, _ weight: Tensor<S>, _ sizes: ConvolutionSizes, into y: Tensor<S>, room: MatrixOperandBuffer<S>,
  finish: ((_ rows: Range<Int>, _ grain: Int) -> Void)? = nil
) { run(x, weight, sizes, isBackward: false, into: y, room, finish) }

/// Writes to dx [points, inputs] the gradient of the input, given dy [output points, outputs].
public func convolveBackward<S: Scalar>(
  _ dy: Tensor<S>, _ weight: Tensor<S>, _ sizes: ConvolutionSizes, into dx: Tensor<S>, room: MatrixOperandBuffer<S>
) { run(dy, weight, sizes, isBackward: true, into: dx, room, nil) }

private func run<S: Scalar>(
  _ source: Tensor<S>, _ weight: Tensor<S>, _ sizes: ConvolutionSizes, isBackward: Bool, into target: Tensor<S>,
  _ room: MatrixOperandBuffer<S>, _ finish: ((Range<Int>, Int) -> Void)?
) {
  let form = OneDNN.ConvolutionForm(sizes, isBackward: isBackward)
  let (from, to, images) = (form.source, form.target, sizes.plane.images)
  precondition(
    S.self == Float.self && source.shape == Shape(images * from.points, from.channels)
      && target.shape == Shape(images * to.points, to.channels)
      && weight.shape == Shape(sizes.outputs, sizes.inputs, sizes.size, sizes.size),
    "\(sizes): \(source.shape) and \(weight.shape) into \(target.shape)")
  guard sizes.plane.rows > 0 else { return }
  let memory = room.fp32.tensor(Shape(sizes.room(threads: Threads.count, isBackward: isBackward))).bytes
  let (input, output, stride) = (source.bytes, target.bytes, MemoryLayout<S>.stride)
  measureProduct {
    let kernel = OneDNN.lend(threads: 1) { $0.reordered(weight.bytes, $0.code(form).weight, memory) }
    Threads.splitProducts(images) { part, range in
      OneDNN.lend(threads: 1) { oneDNN in
        let code = oneDNN.code(form)
        let own = memory + code.weight.bytes + part * code.imageBytes
        for image in range {
          Profile.note(form.product)
          oneDNN.convolve(
            code, input + image * from.points * from.channels * stride, kernel,
            into: output + image * to.points * to.channels * stride, own)
          finish?(image * to.points..<(image + 1) * to.points, to.points)
        }
      }
    }
  }
}

extension OneDNN {
  /// The form of one image's convolution, for which oneDNN generates code.
  struct ConvolutionForm: Hashable {
    fileprivate let sizes: ConvolutionSizes
    fileprivate let isBackward: Bool

    fileprivate init(_ sizes: ConvolutionSizes, isBackward: Bool) {
      let plane = Plane(images: 1, height: sizes.plane.height, width: sizes.plane.width)
      self.sizes = ConvolutionSizes(
        plane, inputs: sizes.inputs, outputs: sizes.outputs, size: sizes.size, stride: sizes.stride)
      self.isBackward = isBackward
    }

    private var input: (points: Int, channels: Int) { (sizes.plane.points, sizes.inputs) }
    private var output: (points: Int, channels: Int) { (sizes.output.points, sizes.outputs) }
    /// The image that is read, x or dy, and the one that is written.
    fileprivate var source: (points: Int, channels: Int) { isBackward ? output : input }
    fileprivate var target: (points: Int, channels: Int) { isBackward ? input : output }

    /// The product of unfolded rows that it replaces.
    fileprivate var product: GEMM {
      let (n, k) = (target.channels, sizes.size * sizes.size * source.channels)
      return GEMM(isBackward ? .nn : .nt, m: target.points, n: n, k: k, lda: k, ldb: isBackward ? n : k, ldc: n)
    }
  }

  /// The code of one image's convolution.
  struct ConvolutionCode {
    fileprivate let primitive: dnnl_primitive_t?
    fileprivate let source: Reordered
    fileprivate let weight: Reordered
    fileprivate let target: Reordered
    fileprivate let scratch: dnnl_memory_t?
    /// The bytes of copies of an image's source and target, and of scratch.
    fileprivate let imageBytes: Int
  }

  /// A matrix that a primitive reads or writes, and the reorder from our layout to the primitive's, or back.
  struct Reordered {
    fileprivate let role: Int32
    fileprivate let memory: dnnl_memory_t?
    /// Nil, like the reorder, if the layouts are the same.
    fileprivate let ours: dnnl_memory_t?
    fileprivate let reorder: dnnl_primitive_t?
    /// The bytes of the copy, in whole cache lines.
    fileprivate let bytes: Int
  }

  /// True if oneDNN's convolutions are code of vectors on this processor.
  static var hasConvolutions: Bool { has(dnnl_cpu_isa_avx2) }

  static func has(_ instructions: dnnl_cpu_isa_t) -> Bool {
    dnnl_get_effective_cpu_isa().rawValue & instructions.rawValue == instructions.rawValue
  }

  fileprivate func code(_ form: ConvolutionForm) -> ConvolutionCode {
    if let code = convolutions[form] { return code }
    let code = make(form)
    convolutions[form] = code
    return code
  }

  /// Returns the matrix in the primitive's layout: itself, or a copy in `room`.
  fileprivate func reordered(
    _ matrix: UnsafeMutableRawPointer, _ layout: Reordered, _ room: UnsafeMutableRawPointer
  ) -> UnsafeMutableRawPointer {
    guard let reorder = layout.reorder else { return matrix }
    execute(reorder) { add in
      add(DNNL_ARG_FROM, layout.ours, matrix)
      add(DNNL_ARG_TO, layout.memory, room)
    }
    return room
  }

  /// Computes one image's target, given the kernel in the primitive's layout and `room` for `imageBytes`.
  fileprivate func convolve(
    _ code: ConvolutionCode, _ source: UnsafeMutableRawPointer, _ kernel: UnsafeMutableRawPointer,
    into target: UnsafeMutableRawPointer, _ room: UnsafeMutableRawPointer
  ) {
    let (layout, x) = (code.target, reordered(source, code.source, room))
    let y = layout.reorder == nil ? target : room + code.source.bytes
    execute(code.primitive) { add in
      add(code.source.role, code.source.memory, x)
      add(code.weight.role, code.weight.memory, kernel)
      add(layout.role, layout.memory, y)
      add(DNNL_ARG_SCRATCHPAD, code.scratch, room + code.source.bytes + layout.bytes)
    }
    guard let reorder = layout.reorder else { return }
    execute(reorder) { add in
      add(DNNL_ARG_FROM, layout.memory, y)
      add(DNNL_ARG_TO, layout.ours, target)
    }
  }

  private func make(_ form: ConvolutionForm) -> ConvolutionCode {
    let sizes = form.sizes
    var described: [kinship_dnnl_layout] = []
    defer { for layout in described { kinship_dnnl_layout_destroy(layout) } }
    func describe(_ sizes: [Int], _ layout: dnnl_format_tag_t) -> kinship_dnnl_layout {
      var matrix = kinship_dnnl_layout()
      check(
        kinship_dnnl_layout_by_tag(&matrix, Int32(sizes.count), sizes.map { dnnl_dim_t($0) }, dnnl_f32, layout),
        "dnnl_memory_desc_create_with_tag")
      described.append(matrix)
      return matrix
    }
    func image(_ plane: Plane, _ channels: Int, _ layout: dnnl_format_tag_t) -> kinship_dnnl_layout {
      describe([1, channels, plane.height, plane.width], layout)
    }
    func weight(_ layout: dnnl_format_tag_t) -> kinship_dnnl_layout {
      describe([sizes.outputs, sizes.inputs, sizes.size, sizes.size], layout)
    }
    // Rows are as good as blocks for 1 × 1, and need no reorder.
    let layout = sizes.size == 1 ? dnnl_nhwc : dnnl_format_tag_any
    let (x, w) = (image(sizes.plane, sizes.inputs, layout), weight(dnnl_format_tag_any))
    let y = image(sizes.output, sizes.outputs, layout)
    let strides = [dnnl_dim_t](repeating: dnnl_dim_t(sizes.stride), count: 2)
    let borders = [dnnl_dim_t](repeating: dnnl_dim_t(sizes.size / 2), count: 2)
    let attributes = makeAttributes()
    defer { dnnl_primitive_attr_destroy(attributes) }
    var forward: dnnl_primitive_desc_t?
    check(
      kinship_dnnl_convolution_create(&forward, engine, x, w, y, strides, borders, attributes),
      "dnnl_convolution_forward_primitive_desc_create")
    defer { dnnl_primitive_desc_destroy(forward) }
    let rows = (
      x: image(sizes.plane, sizes.inputs, dnnl_nhwc), y: image(sizes.output, sizes.outputs, dnnl_nhwc),
      w: weight(dnnl_oihw)
    )
    guard form.isBackward else {
      return code(
        forward, source: reordered(forward, dnnl_query_src_md, DNNL_ARG_SRC, rows.x),
        weight: reordered(forward, dnnl_query_weights_md, DNNL_ARG_WEIGHTS, rows.w),
        target: reordered(forward, dnnl_query_dst_md, DNNL_ARG_DST, rows.y, isWritten: true))
    }
    var backward: dnnl_primitive_desc_t?
    check(
      kinship_dnnl_convolution_backward_create(
        &backward, engine, x, w, y, strides, borders, forward, attributes),
      "dnnl_convolution_backward_data_primitive_desc_create")
    defer { dnnl_primitive_desc_destroy(backward) }
    return code(
      backward, source: reordered(backward, dnnl_query_diff_dst_md, DNNL_ARG_DIFF_DST, rows.y),
      weight: reordered(backward, dnnl_query_weights_md, DNNL_ARG_WEIGHTS, rows.w),
      target: reordered(backward, dnnl_query_diff_src_md, DNNL_ARG_DIFF_SRC, rows.x, isWritten: true))
  }

  private func code(
    _ description: dnnl_primitive_desc_t?, source: Reordered, weight: Reordered, target: Reordered
  ) -> ConvolutionCode {
    var primitive: dnnl_primitive_t?
    check(dnnl_primitive_create(&primitive, description), "dnnl_primitive_create")
    let layout = chosen(description, dnnl_query_scratchpad_md)
    let bytes = wholeLines(layout)
    return ConvolutionCode(
      primitive: primitive, source: source, weight: weight, target: target, scratch: bytes > 0 ? memory(layout) : nil,
      imageBytes: source.bytes + target.bytes + bytes)
  }

  private func reordered(
    _ description: dnnl_primitive_desc_t?, _ what: dnnl_query_t, _ role: Int32, _ rows: kinship_dnnl_layout,
    isWritten: Bool = false
  ) -> Reordered {
    let layout = chosen(description, what)
    guard kinship_dnnl_layout_equal(rows, layout) == 0 else {
      return Reordered(role: role, memory: memory(layout), ours: nil, reorder: nil, bytes: 0)
    }
    var order: dnnl_primitive_desc_t?
    check(
      kinship_dnnl_reorder_create(&order, isWritten ? layout : rows, isWritten ? rows : layout, engine),
      "dnnl_reorder_primitive_desc_create")
    defer { dnnl_primitive_desc_destroy(order) }
    var reorder: dnnl_primitive_t?
    check(dnnl_primitive_create(&reorder, order), "dnnl_primitive_create")
    let bytes = wholeLines(layout)
    return Reordered(role: role, memory: memory(layout), ours: memory(rows), reorder: reorder, bytes: bytes)
  }

  /// Returns the bytes of a matrix in this layout, rounded up to whole cache lines.
  private func wholeLines(_ layout: kinship_dnnl_layout) -> Int {
    (kinship_dnnl_layout_bytes(layout) + 63) / 64 * 64
  }
}
