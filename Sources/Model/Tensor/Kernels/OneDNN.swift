internal import COneDNN
import Foundation
import Synchronization

/// Products of bfloat16 matrices by oneDNN, which keeps the code that it has generated for each size.
///
/// The same sizes and number of threads give the same bits; another number of threads, or another processor, may split
/// the sums differently.
///
/// oneDNN's memory objects and scratch serve one product at a time, so each caller takes an instance for itself and
/// returns it.
final class OneDNN: @unchecked Sendable {
  /// The form of a product, for which oneDNN generates code.
  private struct Product: Hashable {
    /// A product of dense matrices.
    let gemm: GEMM
    let hasBias: Bool
    /// True if the product is added to C.
    let adds: Bool
    /// True if C is rounded to bfloat16.
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
  private var engine: dnnl_engine_t?
  private var stream: dnnl_stream_t?
  private var made: [Product: Code] = [:]
  private var scratch = ScratchMemory()
  private var denseA = ScratchMemory()
  private var denseB = ScratchMemory()
  private var denseC = ScratchMemory()
  /// The most products whose code is kept; beyond this number all are dropped and generated again. The code of a large
  /// product takes 0.4 MiB. A step of two towers with captions of any lengths has some 300 sizes (see `ProductPieces`).
  private static let most = 1024

  /// C = op(A) op(B) + bias.
  ///
  /// oneDNN is twice as fast on dense matrices, so others are copied, which is a small part of the work if they are as
  /// large as a head of attention.
  static func multiply(
    _ gemm: GEMM, _ a: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, bias: UnsafePointer<Float>?,
    into c: RoundedResult<Float>
  ) {
    let threads = Threads.ofProducts
    // The code is for a number of threads, which OpenMP keeps separately for each calling thread.
    setThreads?(Int32(threads))
    let worker =
      idle.withLock { idle in
        idle.lastIndex { $0.threads == threads }.map { idle.remove(at: $0) }
      } ?? OneDNN(threads: threads)
    worker.multiplyDense(gemm, a, b, bias, into: c)
    idle.withLock { $0.append(worker) }
  }

  private func multiplyDense(
    _ gemm: GEMM, _ a: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, _ bias: UnsafePointer<Float>?,
    into result: RoundedResult<Float>
  ) {
    let (c, adds, rounds) = result.parts
    let product = Product(gemm: gemm.dense, hasBias: bias != nil, adds: adds, rounds: rounds)
    let (m, n) = (gemm.m, gemm.n)
    let x = dense(a, rows: gemm.transposeA ? gemm.k : m, columns: product.gemm.lda, stride: gemm.lda, &denseA)
    let y = dense(b, rows: gemm.transposeB ? n : gemm.k, columns: product.gemm.ldb, stride: gemm.ldb, &denseB)
    guard gemm.ldc != n else { return compute(product, x, y, bias, c) }
    precondition(!adds, "sums are added to dense matrices")
    let size = rounds ? 2 : 4
    let z = denseC.room(m * n * size)
    compute(product, x, y, bias, z)
    for i in 0..<m { (c + i * gemm.ldc * size).copyMemory(from: z + i * n * size, byteCount: n * size) }
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
    var a = worker.describe(rows: 1, columns: 1, transposed: false, dnnl_bf16)
    var c = worker.describe(rows: 1, columns: 1, transposed: false, dnnl_f32)
    var operation = dnnl_matmul_desc_t()
    var description: dnnl_primitive_desc_t?
    guard withUnsafePointer(to: &a, { dnnl_matmul_desc_init(&operation, $0, $0, nil, &c) }) == dnnl_success,
      dnnl_primitive_desc_create(&description, &operation, nil, worker.engine, nil) == dnnl_success
    else { return false }
    dnnl_primitive_desc_destroy(description)
    return true
  }()

  private init(threads: Int) {
    self.threads = threads
    made.reserveCapacity(Self.most)
    Self.check(dnnl_engine_create(&engine, dnnl_cpu, 0), "dnnl_engine_create")
    Self.check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags.rawValue), "dnnl_stream_create")
  }

  private func compute(
    _ product: Product, _ a: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, _ bias: UnsafePointer<Float>?,
    _ c: UnsafeMutableRawPointer
  ) {
    let code = code(product)
    let scratch = code.scratch == nil ? nil : scratch.room(code.scratchBytes)
    withUnsafeTemporaryAllocation(of: dnnl_exec_arg_t.self, capacity: 5) { arguments in
      var count = 0
      func add(_ role: Int32, _ memory: dnnl_memory_t?, _ pointer: UnsafeMutableRawPointer?) {
        guard let memory else { return }
        Self.check(dnnl_memory_set_data_handle(memory, pointer), "dnnl_memory_set_data_handle")
        arguments.initializeElement(at: count, to: dnnl_exec_arg_t(arg: role, memory: memory))
        count += 1
      }
      add(DNNL_ARG_SRC, code.a, UnsafeMutableRawPointer(mutating: a))
      add(DNNL_ARG_WEIGHTS, code.b, UnsafeMutableRawPointer(mutating: b))
      add(DNNL_ARG_BIAS, code.bias, UnsafeMutableRawPointer(mutating: bias))
      add(DNNL_ARG_DST, code.c, c)
      add(DNNL_ARG_SCRATCHPAD, code.scratch, scratch)
      Self.check(
        dnnl_primitive_execute(code.primitive, stream, Int32(count), arguments.baseAddress), "dnnl_primitive_execute")
    }
    Self.check(dnnl_stream_wait(stream), "dnnl_stream_wait")
  }

  private func code(_ product: Product) -> Code {
    if let code = made[product] { return code }
    if made.count >= Self.most {
      for code in made.values {
        dnnl_primitive_destroy(code.primitive)
        for memory in [code.a, code.b, code.c, code.bias, code.scratch] { dnnl_memory_destroy(memory) }
      }
      made.removeAll(keepingCapacity: true)
    }
    let code = make(product)
    made[product] = code
    return code
  }

  private func make(_ product: Product) -> Code {
    let p = product.gemm
    var a = describe(rows: p.m, columns: p.k, transposed: p.transposeA, dnnl_bf16)
    var b = describe(rows: p.k, columns: p.n, transposed: p.transposeB, dnnl_bf16)
    var c = describe(rows: p.m, columns: p.n, transposed: false, product.rounds ? dnnl_bf16 : dnnl_f32)
    var bias = describe(rows: 1, columns: p.n, transposed: false, dnnl_f32)
    var operation = dnnl_matmul_desc_t()
    Self.check(
      withUnsafePointer(to: &bias) { dnnl_matmul_desc_init(&operation, &a, &b, product.hasBias ? $0 : nil, &c) },
      "dnnl_matmul_desc_init")
    var attributes: dnnl_primitive_attr_t?
    Self.check(dnnl_primitive_attr_create(&attributes), "dnnl_primitive_attr_create")
    defer { dnnl_primitive_attr_destroy(attributes) }
    Self.check(
      dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user),
      "dnnl_primitive_attr_set_scratchpad_mode")
    if product.adds {
      var after: dnnl_post_ops_t?
      Self.check(dnnl_post_ops_create(&after), "dnnl_post_ops_create")
      defer { dnnl_post_ops_destroy(after) }
      Self.check(dnnl_post_ops_append_sum(after, 1), "dnnl_post_ops_append_sum")
      Self.check(dnnl_primitive_attr_set_post_ops(attributes, after), "dnnl_primitive_attr_set_post_ops")
    }
    var description: dnnl_primitive_desc_t?
    Self.check(
      dnnl_primitive_desc_create(&description, &operation, attributes, engine, nil), "dnnl_primitive_desc_create")
    defer { dnnl_primitive_desc_destroy(description) }
    var primitive: dnnl_primitive_t?
    Self.check(dnnl_primitive_create(&primitive, description), "dnnl_primitive_create")
    guard let room = dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0) else {
      fatalError("oneDNN: no description of the scratch of \(p)")
    }
    let scratchBytes = dnnl_memory_desc_get_size(room)
    return Code(
      primitive: primitive, a: memory(a), b: memory(b), c: memory(c), bias: product.hasBias ? memory(bias) : nil,
      scratch: scratchBytes > 0 ? memory(room.pointee) : nil, scratchBytes: scratchBytes)
  }

  /// Makes an object without memory of its own; each product tells it where its matrix is.
  private func memory(_ description: dnnl_memory_desc_t) -> dnnl_memory_t? {
    var description = description
    var memory: dnnl_memory_t?
    Self.check(dnnl_memory_create(&memory, &description, engine, nil), "dnnl_memory_create")
    return memory
  }

  private func describe(
    rows: Int, columns: Int, transposed: Bool, _ type: dnnl_data_type_t
  ) -> dnnl_memory_desc_t {
    var matrix = dnnl_memory_desc_t()
    let sizes = [dnnl_dim_t(rows), dnnl_dim_t(columns)]
    let strides = transposed ? [1, dnnl_dim_t(rows)] : [dnnl_dim_t(columns), 1]
    Self.check(dnnl_memory_desc_init_by_strides(&matrix, 2, sizes, type, strides), "dnnl_memory_desc_init_by_strides")
    return matrix
  }

  private static func check(_ status: dnnl_status_t, _ call: String) {
    precondition(status == dnnl_success, "oneDNN: \(call) gives \(status.rawValue)")
  }

  /// Sets the number of threads that OpenMP, on which oneDNN runs, uses for calls from this thread.
  private typealias SetThreads = @convention(c) (Int32) -> Void
  private static let setThreads: SetThreads? = {
    // The function of the library that oneDNN itself is linked with.
    guard let symbol = dlsym(nil, "omp_set_num_threads") else { return nil }
    return unsafeBitCast(symbol, to: SetThreads.self)
  }()
}

extension RoundedResult {
  fileprivate var parts: (memory: UnsafeMutableRawPointer, adds: Bool, rounds: Bool) {
    switch self {
    case .fp32(let c): (UnsafeMutableRawPointer(c), false, false)
    case .sum(let c): (UnsafeMutableRawPointer(c), true, false)
    case .bf16(let c): (UnsafeMutableRawPointer(c), false, true)
    }
  }
}

/// Facts that oneDNN reports about itself and this processor.
public enum RoundedProducts {
  /// The instructions that products of bfloat16 run on; nil if the processor has none, so that rounding would cost time
  /// instead of saving it.
  public static var instructions: String? {
    let name =
      switch dnnl_get_effective_cpu_isa() {
      case dnnl_cpu_isa_avx512_core_amx: "AMX"
      case dnnl_cpu_isa_avx512_core_bf16: "AVX-512 bf16"
      default: ""
      }
    return name.isEmpty ? nil : name
  }

  public static var library: String {
    guard let version = dnnl_version() else { return "oneDNN" }
    return "oneDNN \(version.pointee.major).\(version.pointee.minor).\(version.pointee.patch)"
  }
}
