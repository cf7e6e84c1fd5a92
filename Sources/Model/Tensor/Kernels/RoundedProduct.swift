internal import COneDNN
import Foundation
import Synchronization

/// The door to oneDNN: C = op(A) op(B), or added to C, on contiguous row-major memory.
public protocol RoundedProduct {
  static func multiplyRounded(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<UInt16>,
    _ b: UnsafePointer<UInt16>, accumulate: Bool, _ c: UnsafeMutablePointer<Self>)
}

extension Float: RoundedProduct {
  public static func multiplyRounded(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<UInt16>,
    _ b: UnsafePointer<UInt16>, accumulate: Bool, _ c: UnsafeMutablePointer<Float>
  ) {
    Profile.note(transposeA, transposeB, m, n, k, .bf16)
    OneDNN.shared.multiply(
      OneDNN.Product(transposeA: transposeA, transposeB: transposeB, m: m, n: n, k: k, accumulate: accumulate), a, b, c)
  }
}

/// Exact sums of the rounded numbers: what the other is held against.
extension Double: RoundedProduct {
  public static func multiplyRounded(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<UInt16>,
    _ b: UnsafePointer<UInt16>, accumulate: Bool, _ c: UnsafeMutablePointer<Double>
  ) {
    func widened(_ x: UnsafePointer<UInt16>, _ count: Int) -> [Double] {
      (0..<count).map { Double(Float(bitPattern: UInt32(x[$0]) << 16)) }
    }
    multiply(
      transposeA: transposeA, transposeB: transposeB, m, n, k, alpha: 1, widened(a, m * k), transposeA ? m : k,
      widened(b, k * n), transposeB ? k : n, beta: accumulate ? 1 : 0, c, n)
  }
}

/// Products that oneDNN has made code for, by their sizes.
///
/// The same sizes and the same number of threads give the same bits; another number of threads may split the sums
/// otherwise, as may another processor. One product is computed at a time.
private final class OneDNN: @unchecked Sendable {
  struct Product: Hashable {
    let transposeA: Bool
    let transposeB: Bool
    let m: Int
    let n: Int
    let k: Int
    let accumulate: Bool
  }

  /// The code of one product, and where it looks for its matrices.
  private struct Code {
    let primitive: dnnl_primitive_t?
    let memories: [dnnl_memory_t?]
  }

  static let shared = OneDNN()

  private let lock = Mutex(())
  private var engine: dnnl_engine_t?
  private var stream: dnnl_stream_t?
  private var made: [Product: Code] = [:]
  /// Packed captions give another number of rows every step: the oldest code goes when there is too much of it.
  private static let most = 4096

  init() {
    check(dnnl_engine_create(&engine, dnnl_cpu, 0), "dnnl_engine_create")
    check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags.rawValue), "dnnl_stream_create")
  }

  func multiply(
    _ product: Product, _ a: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, _ c: UnsafeMutablePointer<Float>
  ) {
    lock.withLock { _ in compute(product, a, b, c) }
  }

  private func compute(
    _ product: Product, _ a: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, _ c: UnsafeMutablePointer<Float>
  ) {
    RoundedProducts.setThreads?(Int32(Threads.count))
    let code = code(product)
    check(dnnl_memory_set_data_handle(code.memories[0], UnsafeMutableRawPointer(mutating: a)), "A")
    check(dnnl_memory_set_data_handle(code.memories[1], UnsafeMutableRawPointer(mutating: b)), "B")
    check(dnnl_memory_set_data_handle(code.memories[2], c), "C")
    let roles = [DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST]
    withUnsafeTemporaryAllocation(of: dnnl_exec_arg_t.self, capacity: 3) { arguments in
      for index in 0..<3 {
        arguments.initializeElement(at: index, to: dnnl_exec_arg_t(arg: roles[index], memory: code.memories[index]))
      }
      check(dnnl_primitive_execute(code.primitive, stream, 3, arguments.baseAddress), "dnnl_primitive_execute")
    }
    check(dnnl_stream_wait(stream), "dnnl_stream_wait")
  }

  private func code(_ product: Product) -> Code {
    if let code = made[product] { return code }
    if made.count >= Self.most {
      for code in made.values {
        dnnl_primitive_destroy(code.primitive)
        for memory in code.memories { dnnl_memory_destroy(memory) }
      }
      made = [:]
    }
    let code = make(product)
    made[product] = code
    return code
  }

  private func make(_ p: Product) -> Code {
    var (a, b, c) = (dnnl_memory_desc_t(), dnnl_memory_desc_t(), dnnl_memory_desc_t())
    describe(&a, p.m, p.k, transposed: p.transposeA, dnnl_bf16)
    describe(&b, p.k, p.n, transposed: p.transposeB, dnnl_bf16)
    describe(&c, p.m, p.n, transposed: false, dnnl_f32)
    var operation = dnnl_matmul_desc_t()
    check(dnnl_matmul_desc_init(&operation, &a, &b, nil, &c), "dnnl_matmul_desc_init")
    var attributes: dnnl_primitive_attr_t?
    check(dnnl_primitive_attr_create(&attributes), "dnnl_primitive_attr_create")
    defer { dnnl_primitive_attr_destroy(attributes) }
    if p.accumulate {
      var after: dnnl_post_ops_t?
      check(dnnl_post_ops_create(&after), "dnnl_post_ops_create")
      defer { dnnl_post_ops_destroy(after) }
      check(dnnl_post_ops_append_sum(after, 1), "dnnl_post_ops_append_sum")
      check(dnnl_primitive_attr_set_post_ops(attributes, after), "dnnl_primitive_attr_set_post_ops")
    }
    var description: dnnl_primitive_desc_t?
    check(
      dnnl_primitive_desc_create(&description, &operation, attributes, engine, nil), "dnnl_primitive_desc_create")
    defer { dnnl_primitive_desc_destroy(description) }
    var primitive: dnnl_primitive_t?
    check(dnnl_primitive_create(&primitive, description), "dnnl_primitive_create")
    let memories = [a, b, c].map { description -> dnnl_memory_t? in
      var description = description
      var memory: dnnl_memory_t?
      // No memory of its own: each product says where its matrices are.
      check(dnnl_memory_create(&memory, &description, engine, nil), "dnnl_memory_create")
      return memory
    }
    return Code(primitive: primitive, memories: memories)
  }

  private func describe(
    _ matrix: inout dnnl_memory_desc_t, _ rows: Int, _ columns: Int, transposed: Bool, _ type: dnnl_data_type_t
  ) {
    let sizes = [dnnl_dim_t(rows), dnnl_dim_t(columns)]
    let strides = transposed ? [1, dnnl_dim_t(rows)] : [dnnl_dim_t(columns), 1]
    check(dnnl_memory_desc_init_by_strides(&matrix, 2, sizes, type, strides), "dnnl_memory_desc_init_by_strides")
  }

  private func check(_ status: dnnl_status_t, _ call: String) {
    precondition(status == dnnl_success, "oneDNN: \(call) gives \(status.rawValue)")
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

  /// Sets how many threads OpenMP, on which oneDNN runs, takes for what the calling thread asks of it.
  fileprivate typealias SetThreads = @convention(c) (Int32) -> Void
  fileprivate static let setThreads: SetThreads? = {
    // In the library that oneDNN itself is linked with.
    guard let symbol = dlsym(nil, "omp_set_num_threads") else { return nil }
    return unsafeBitCast(symbol, to: SetThreads.self)
  }()
}
