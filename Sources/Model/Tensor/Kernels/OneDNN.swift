internal import COneDNN
import Foundation
import Synchronization

/// Products of bfloat16 matrices, and convolutions (see OneDNNConvolution.swift), by oneDNN; those of single precision
/// need no instance (see SinglePrecision.swift). The same sizes and number of threads give the same bits; another
/// number of threads, or another processor, may split the sums differently. Memory objects and scratch serve one
/// product at a time, so each caller takes an instance for itself and returns it.
final class OneDNN: @unchecked Sendable {
  /// The form of a product, for which oneDNN generates code.
  private struct Form: Hashable {
    /// A product of dense matrices.
    let gemm: GEMM
    let hasBias: Bool
    let adds: Bool
    let rounds: Bool
  }

  /// The code of one product, and the memory objects that tell it where its matrices are.
  private struct Code {
    let primitive: dnnl_primitive_t?
    let a: dnnl_memory_t?
    let b: dnnl_memory_t?
    let c: dnnl_memory_t?
    let bias: dnnl_memory_t?
    let scratch: dnnl_memory_t?
    let scratchBytes: Int
  }

  private static let idle: Mutex<[OneDNN]> = {
    // Code is kept here, by sizes; oneDNN's own cache would only hold a second copy.
    check(dnnl_set_primitive_cache_capacity(0), "dnnl_set_primitive_cache_capacity")
    return Mutex([])
  }()

  private let threads: Int
  private(set) var engine: dnnl_engine_t?
  private var stream: dnnl_stream_t?
  private var made: [Form: Code] = [:]
  /// Convolutions go by image, so a tower has some 40 forms, whatever the batch.
  var convolutions: [ConvolutionForm: ConvolutionCode] = [:]
  private var scratch = ScratchMemory()
  private var copies = (a: ScratchMemory(), b: ScratchMemory(), c: ScratchMemory())
  /// The most products whose code, of up to 0.4 MiB each, is kept; a step of two towers has some 300 sizes.
  private static let most = 1024

  /// C = op(A) op(B) + bias. Matrices that are not dense are copied, because oneDNN is twice as fast on dense ones.
  static func multiply(_ product: RoundedProduct<Float>) { lend(threads: Threads.ofProducts) { $0.multiply(product) } }

  /// Lends `body` an instance whose code is for this number of threads.
  static func lend<R>(threads: Int, _ body: (OneDNN) -> R) -> R {
    setThreads(threads)
    let rested = idle.withLock { idle in idle.lastIndex { $0.threads == threads }.map { idle.remove(at: $0) } }
    let worker = rested ?? OneDNN(threads: threads)
    defer { idle.withLock { $0.append(worker) } }
    return body(worker)
  }

  private func multiply(_ product: RoundedProduct<Float>) {
    let (gemm, m, n, size) = (product.gemm, product.gemm.m, product.gemm.n, product.rounds ? 2 : 4)
    let form = Form(gemm: gemm.dense, hasBias: product.bias != nil, adds: product.adds, rounds: product.rounds)
    let x = dense(product.a, rows: gemm.transposeA ? gemm.k : m, columns: form.gemm.lda, stride: gemm.lda, &copies.a)
    let y = dense(product.b, rows: gemm.transposeB ? n : gemm.k, columns: form.gemm.ldb, stride: gemm.ldb, &copies.b)
    precondition(gemm.ldc == n || !product.adds, "sums are added to dense matrices")
    let z = gemm.ldc == n ? product.c : copies.c.room(m * n * size)
    let code = code(form)
    let scratch = code.scratch == nil ? nil : scratch.room(code.scratchBytes)
    execute(code.primitive) { add in
      add(DNNL_ARG_SRC, code.a, UnsafeMutableRawPointer(mutating: x))
      add(DNNL_ARG_WEIGHTS, code.b, UnsafeMutableRawPointer(mutating: y))
      add(DNNL_ARG_BIAS, code.bias, UnsafeMutableRawPointer(mutating: product.bias))
      add(DNNL_ARG_DST, code.c, z)
      add(DNNL_ARG_SCRATCHPAD, code.scratch, scratch)
    }
    guard gemm.ldc != n else { return }
    for i in 0..<m { (product.c + i * gemm.ldc * size).copyMemory(from: z + i * n * size, byteCount: n * size) }
  }

  /// Runs a primitive on the matrices that `body` adds, at most five; those without a memory object are left out.
  func execute(
    _ primitive: dnnl_primitive_t?,
    _ body: (_ add: (_ role: Int32, _ memory: dnnl_memory_t?, _ data: UnsafeMutableRawPointer?) -> Void) -> Void
  ) {
    withUnsafeTemporaryAllocation(of: dnnl_exec_arg_t.self, capacity: 5) { arguments in
      var count = 0
      body { role, memory, data in
        guard let memory else { return }
        check(dnnl_memory_set_data_handle(memory, data), "dnnl_memory_set_data_handle")
        arguments.initializeElement(at: count, to: dnnl_exec_arg_t(arg: role, memory: memory))
        count += 1
      }
      check(dnnl_primitive_execute(primitive, stream, Int32(count), arguments.baseAddress), "dnnl_primitive_execute")
    }
    check(dnnl_stream_wait(stream), "dnnl_stream_wait")
  }

  /// Returns x, or a copy of it whose rows follow one another without gaps.
  private func dense(
    _ x: UnsafePointer<UInt16>, rows: Int, columns: Int, stride: Int, _ memory: inout ScratchMemory
  ) -> UnsafePointer<UInt16> {
    guard stride != columns else { return x }
    let copy = memory.room(rows * columns * 2).assumingMemoryBound(to: UInt16.self)
    for i in 0..<rows { (copy + i * columns).update(from: x + i * stride, count: columns) }
    return UnsafePointer(copy)
  }

  /// True if oneDNN has products of bfloat16 for this processor, which it has from AVX-512 on.
  static let hasRoundedProducts: Bool = {
    let worker = OneDNN(threads: 1)
    let a = worker.describe(rows: 1, columns: 1, transposed: false, dnnl_bf16)
    let c = worker.describe(rows: 1, columns: 1, transposed: false, dnnl_f32)
    defer { for layout in [a, c] { kinship_dnnl_layout_destroy(layout) } }
    var description: dnnl_primitive_desc_t?
    guard kinship_dnnl_product_create(&description, worker.engine, a, a, nil, c, nil) == dnnl_success
    else { return false }
    dnnl_primitive_desc_destroy(description)
    return true
  }()

  private init(threads: Int) {
    self.threads = threads
    made.reserveCapacity(Self.most)
    convolutions.reserveCapacity(128)
    check(dnnl_engine_create(&engine, dnnl_cpu, 0), "dnnl_engine_create")
    check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags.rawValue), "dnnl_stream_create")
  }

  private func code(_ form: Form) -> Code {
    if let code = made[form] { return code }
    if made.count >= Self.most {
      for code in made.values {
        dnnl_primitive_destroy(code.primitive)
        for memory in [code.a, code.b, code.c, code.bias, code.scratch] { dnnl_memory_destroy(memory) }
      }
      made.removeAll(keepingCapacity: true)
    }
    let code = make(form)
    made[form] = code
    return code
  }

  private func make(_ form: Form) -> Code {
    let p = form.gemm
    let a = describe(rows: p.m, columns: p.k, transposed: p.transposeA, dnnl_bf16)
    let b = describe(rows: p.k, columns: p.n, transposed: p.transposeB, dnnl_bf16)
    let c = describe(rows: p.m, columns: p.n, transposed: false, form.rounds ? dnnl_bf16 : dnnl_f32)
    let bias = describe(rows: 1, columns: p.n, transposed: false, dnnl_f32)
    defer { for layout in [a, b, c, bias] { kinship_dnnl_layout_destroy(layout) } }
    let attributes = makeAttributes()
    defer { dnnl_primitive_attr_destroy(attributes) }
    if form.adds {
      var after: dnnl_post_ops_t?
      check(dnnl_post_ops_create(&after), "dnnl_post_ops_create")
      defer { dnnl_post_ops_destroy(after) }
      check(kinship_dnnl_append_sum(after), "dnnl_post_ops_append_sum")
      check(dnnl_primitive_attr_set_post_ops(attributes, after), "dnnl_primitive_attr_set_post_ops")
    }
    var description: dnnl_primitive_desc_t?
    check(
      withUnsafePointer(to: bias) {
        kinship_dnnl_product_create(&description, engine, a, b, form.hasBias ? $0 : nil, c, attributes)
      }, "dnnl_matmul_primitive_desc_create")
    defer { dnnl_primitive_desc_destroy(description) }
    var primitive: dnnl_primitive_t?
    check(dnnl_primitive_create(&primitive, description), "dnnl_primitive_create")
    let room = chosen(description, dnnl_query_scratchpad_md)
    let scratchBytes = kinship_dnnl_layout_bytes(room)
    return Code(
      primitive: primitive, a: memory(a), b: memory(b), c: memory(c), bias: form.hasBias ? memory(bias) : nil,
      scratch: scratchBytes > 0 ? memory(room) : nil, scratchBytes: scratchBytes)
  }

  /// Makes attributes that leave scratch to the caller, who destroys them.
  func makeAttributes() -> dnnl_primitive_attr_t? {
    var attributes: dnnl_primitive_attr_t?
    check(dnnl_primitive_attr_create(&attributes), "dnnl_primitive_attr_create")
    check(
      dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user),
      "dnnl_primitive_attr_set_scratchpad_mode")
    return attributes
  }

  /// Makes an object without memory of its own; each product tells it where its matrix is.
  func memory(_ layout: kinship_dnnl_layout) -> dnnl_memory_t? {
    var memory: dnnl_memory_t?
    check(kinship_dnnl_memory_create(&memory, layout, engine), "dnnl_memory_create")
    return memory
  }

  /// Returns a layout that a primitive has chosen. It is valid as long as the primitive's description.
  func chosen(_ description: dnnl_primitive_desc_t?, _ what: dnnl_query_t) -> kinship_dnnl_layout {
    var layout = kinship_dnnl_layout()
    check(kinship_dnnl_layout_chosen(&layout, description, what), "dnnl_primitive_desc_query_md")
    return layout
  }

  /// Returns the layout of a matrix, which the caller destroys.
  private func describe(rows: Int, columns: Int, transposed: Bool, _ type: dnnl_data_type_t) -> kinship_dnnl_layout {
    var matrix = kinship_dnnl_layout()
    let sizes = [dnnl_dim_t(rows), dnnl_dim_t(columns)]
    let strides = transposed ? [1, dnnl_dim_t(rows)] : [dnnl_dim_t(columns), 1]
    check(kinship_dnnl_layout_by_strides(&matrix, 2, sizes, type, strides), "dnnl_memory_desc_create_with_strides")
    return matrix
  }

  /// Sets the number of threads that OpenMP takes for calls from this thread; it keeps one for each calling thread.
  static func setThreads(_ count: Int) { setOpenMPThreads?(Int32(count)) }

  private typealias SetThreads = @convention(c) (Int32) -> Void
  /// OpenMP's function, in the library that oneDNN uses.
  private static let setOpenMPThreads = dlsym(nil, "omp_set_num_threads")
    .map { unsafeBitCast($0, to: SetThreads.self) }
}

func check(_ status: dnnl_status_t, _ call: String) {
  precondition(status == dnnl_success, "oneDNN: \(call) gives \(status.rawValue)")
}

/// Facts that oneDNN reports about itself and this processor.
public enum RoundedProducts {
  /// The instructions that products of bfloat16 run on; nil if there are none, so that rounding would only cost time.
  public static var instructions: String? {
    // oneDNN 3 knows more than these, such as AMX with products of 16-bit floats, which have all of their bits.
    OneDNN.has(dnnl_cpu_isa_avx512_core_amx)
      ? "AMX" : OneDNN.has(dnnl_cpu_isa_avx512_core_bf16) ? "AVX-512 bf16" : nil
  }
}

extension Arithmetic.Library {
  public static var oneDNN: Arithmetic.Library {
    let version = dnnl_version().map { "\($0.pointee.major).\($0.pointee.minor).\($0.pointee.patch)" }
    let names = [
      (dnnl_cpu_isa_sse41, "sse41"), (dnnl_cpu_isa_avx, "avx"), (dnnl_cpu_isa_avx2, "avx2"),
      (dnnl_cpu_isa_avx2_vnni, "avx2_vnni"), (dnnl_cpu_isa_avx512_core, "avx512_core"),
      (dnnl_cpu_isa_avx512_core_vnni, "avx512_core_vnni"), (dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16"),
      (dnnl_cpu_isa_avx512_core_amx, "avx512_core_amx"),
    ]
    return Arithmetic.Library(
      name: "oneDNN", version: version ?? "unknown",
      instructions: names.last { OneDNN.has($0.0) }?.1 ?? "unknown")
  }
}
