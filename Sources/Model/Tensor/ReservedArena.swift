import Foundation

/// Addresses for a block of scalars, of which only those pages take memory that were written and not discarded since.
///
/// Numbers that come and go keep their place this way: nothing that reads them needs to know.
public final class ReservedArena<S: Scalar>: @unchecked Sendable {
  /// All of the block. What was never written, or was discarded, is zero.
  public let values: Tensor<S>
  private let base: UnsafeMutableRawPointer
  private let bytes: Int

  public init(count: Int) {
    precondition(count >= 0)
    let page = Self.page
    let bytes = max((count * MemoryLayout<S>.stride + page - 1) / page, 1) * page
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    guard let base = mmap(nil, bytes, PROT_READ | PROT_WRITE, flags, -1, 0), base != MAP_FAILED else {
      fatalError("no addresses for \(bytes) bytes: see ulimit -v")
    }
    self.base = base
    self.bytes = bytes
    values =
      Arena(adopting: base.bindMemory(to: S.self, capacity: max(count, 1)), count: count) {
        munmap(base, bytes)
      }.vector
  }

  private static var page: Int { Int(sysconf(Int32(_SC_PAGESIZE))) }

  /// Gives back the memory of some elements, as far as whole pages belong to them.
  public func discard(_ range: Range<Int>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= values.count, "\(range) of \(values.shape)")
    let page = Self.page
    let start = (range.lowerBound * MemoryLayout<S>.stride + page - 1) / page * page
    let end = range.upperBound * MemoryLayout<S>.stride / page * page
    guard start < end else { return }
    let code = madvise(base + start, end - start, MADV_DONTNEED)
    precondition(code == 0, "madvise refused pages of our own: errno \(errno)")
  }

  /// Bytes that take memory now, as the system counts them.
  public var residentBytes: Int {
    let page = Self.page
    var pages = [UInt8](repeating: 0, count: bytes / page)
    let code = mincore(base, bytes, &pages)
    precondition(code == 0, "mincore refused pages of our own: errno \(errno)")
    return pages.reduce(0) { $0 + Int($1 & 1) } * page
  }
}
