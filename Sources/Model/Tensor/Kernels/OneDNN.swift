internal import COneDNN
import Foundation
import Synchronization

/// Products of bfloat16 by oneDNN, and the code that it has made for them, by their sizes.
///
/// The same sizes and the same number of threads give the same bits; another number of threads may split the sums
/// otherwise, as may another processor.
///
/// oneDNN's memory objects and scratch are of one product at a time: whoever multiplies takes an instance of its own,
/// and gives it back.
final class OneDNN: @unchecked Sendable {
  struct Product: Hashable {
    enum Destination { case exact, sum, rounded }

    let transposeA: Bool
    let transposeB: Bool
    let m: Int
    let n: Int
    let k: Int
    let hasBias: Bool
    let destination: Destination

    /// A and B as they are stored.
    var a: (rows: Int, columns: Int) { transposeA ? (k, m) : (m, k) }
    var b: (rows: Int, columns: Int) { transposeB ? (n, k) : (k, n) }
  }

  /// The code of one product, and where it looks for its matrices.
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
    // What is made is kept here, by sizes; a second copy behind the interface would only hold memory.
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
  /// The code of a large product takes 0.4 MiB. A step of two towers with captions of any lengths has some 300 sizes
  /// (see `ProductPieces`); beyond this number all go and are made again.
  private static let most = 1024

  /// Matrices whose rows are `lda`, `ldb` and `ldc` numbers apart.
  ///
  /// oneDNN is twice as fast on dense matrices, so others are copied: a small part of the work where they are as large
  /// as a head of attention.
  static func multiply(
    _ product: Product, _ a: UnsafePointer<UInt16>, _ lda: Int, _ b: UnsafePointer<UInt16>, _ ldb: Int,
    bias: UnsafePointer<Float>?, _ c: UnsafeMutableRawPointer, _ ldc: Int
  ) {
    let threads = Threads.ofProducts
    // The code is for a number of threads, and OpenMP keeps that number for each thread that asks.
    setThreads?(Int32(threads))
    let worker =
      idle.withLock { idle in
        idle.lastIndex { $0.threads == threads }.map { idle.remove(at: $0) }
      } ?? OneDNN(threads: threads)
    worker.multiplyDense(product, a, lda, b, ldb, bias, c, ldc)
    idle.withLock { $0.append(worker) }
  }

  private func multiplyDense(
    _ product: Product, _ a: UnsafePointer<UInt16>, _ lda: Int, _ b: UnsafePointer<UInt16>, _ ldb: Int,
    _ bias: UnsafePointer<Float>?, _ c: UnsafeMutableRawPointer, _ ldc: Int
  ) {
    let x = dense(a, product.a, lda, &denseA)
    let y = dense(b, product.b, ldb, &denseB)
    guard ldc != product.n else { return compute(product, x, y, bias, c) }
    precondition(product.destination != .sum, "sums are added to dense matrices")
    let size = product.destination == .rounded ? 2 : 4
    let z = denseC.room(product.m * product.n * size)
    compute(product, x, y, bias, z)
    for i in 0..<product.m {
      (c + i * ldc * size).copyMemory(from: z + i * product.n * size, byteCount: product.n * size)
    }
  }

  private func dense(
    _ x: UnsafePointer<UInt16>, _ size: (rows: Int, columns: Int), _ stride: Int, _ memory: inout ScratchMemory
  ) -> UnsafePointer<UInt16> {
    guard stride != size.columns else { return x }
    let copy = memory.room(size.rows * size.columns * 2).assumingMemoryBound(to: UInt16.self)
    for i in 0..<size.rows { (copy + i * size.columns).update(from: x + i * stride, count: size.columns) }
    return UnsafePointer(copy)
  }

  /// Whether oneDNN has products of bfloat16 for this processor: it has none below AVX-512.
  static let hasRoundedProducts: Bool = {
    let worker = OneDNN(threads: 1)
    var a = worker.describe(1, 1, transposed: false, dnnl_bf16)
    var c = worker.describe(1, 1, transposed: false, dnnl_f32)
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

  private func make(_ p: Product) -> Code {
    let rounds = p.destination == .rounded
    var a = describe(p.m, p.k, transposed: p.transposeA, dnnl_bf16)
    var b = describe(p.k, p.n, transposed: p.transposeB, dnnl_bf16)
    var c = describe(p.m, p.n, transposed: false, rounds ? dnnl_bf16 : dnnl_f32)
    var bias = describe(1, p.n, transposed: false, dnnl_f32)
    var operation = dnnl_matmul_desc_t()
    Self.check(
      withUnsafePointer(to: &bias) { dnnl_matmul_desc_init(&operation, &a, &b, p.hasBias ? $0 : nil, &c) },
      "dnnl_matmul_desc_init")
    var attributes: dnnl_primitive_attr_t?
    Self.check(dnnl_primitive_attr_create(&attributes), "dnnl_primitive_attr_create")
    defer { dnnl_primitive_attr_destroy(attributes) }
    Self.check(
      dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user),
      "dnnl_primitive_attr_set_scratchpad_mode")
    if p.destination == .sum {
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
      primitive: primitive, a: memory(a), b: memory(b), c: memory(c), bias: p.hasBias ? memory(bias) : nil,
      scratch: scratchBytes > 0 ? memory(room.pointee) : nil, scratchBytes: scratchBytes)
  }

  /// An object without memory of its own: each product says where its matrices are.
  private func memory(_ description: dnnl_memory_desc_t) -> dnnl_memory_t? {
    var description = description
    var memory: dnnl_memory_t?
    Self.check(dnnl_memory_create(&memory, &description, engine, nil), "dnnl_memory_create")
    return memory
  }

  private func describe(
    _ rows: Int, _ columns: Int, transposed: Bool, _ type: dnnl_data_type_t
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

  /// Sets how many threads OpenMP, on which oneDNN runs, takes for what the calling thread asks of it.
  private typealias SetThreads = @convention(c) (Int32) -> Void
  private static let setThreads: SetThreads? = {
    // In the library that oneDNN itself is linked with.
    guard let symbol = dlsym(nil, "omp_set_num_threads") else { return nil }
    return unsafeBitCast(symbol, to: SetThreads.self)
  }()
}

/// Memory without contents that grows to its high-water mark.
struct ScratchMemory {
  private var memory: UnsafeMutableRawPointer?
  private var bytes = 0

  mutating func room(_ bytes: Int) -> UnsafeMutableRawPointer {
    if bytes > self.bytes || memory == nil {
      free(memory)
      self.bytes = (bytes + 63) / 64 * 64
      memory = aligned_alloc(64, max(self.bytes, 64))
    }
    guard let memory else { fatalError("out of memory: \(bytes) bytes for a product") }
    return memory
  }
}

/// What oneDNN makes of this processor.
public enum RoundedProducts {
  /// The instructions that products of bfloat16 run on; nil where the processor has none and rounding would cost time
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
