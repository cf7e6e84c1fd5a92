internal import Foundation

/// A thread that meets other ranks while the caller computes, for MPI does nothing by itself.
///
/// What is submitted runs in its order, one after another: every rank must submit the same. The thread waits for work
/// without taking time, and for other ranks within MPI, which yields its core to whoever computes (`Job.run`).
public final class CommunicationThread: Sendable {
  private let state = State()

  /// - Parameter ranks: used by nobody else while something is under way.
  public init(_ name: String, over ranks: Communicator) {
    Thread.detachNewThread { [state] in
      // A thread takes no name before whoever starts it has noted that it runs.
      while Thread.current.name != name {
        Thread.current.name = name
        Thread.sleep(forTimeInterval: 1e-5)
      }
      state.work(ranks)
    }
  }

  deinit { state.end() }

  /// Runs `work` after all that was submitted before. Returns its number, to wait for.
  @discardableResult
  public func submit(_ work: @escaping @Sendable (Communicator) throws -> Void) -> Int { state.submit(work) }

  /// Returns when the work of this number, and so all before it, is done; nil: when all is. Throws what first went
  /// wrong, after which nothing runs any more.
  public func wait(for number: Int? = nil) throws { try state.wait(for: number) }

  /// Throws what has gone wrong so far; does not wait.
  public func check() throws { try state.check() }

  private final class State: @unchecked Sendable {
    private let condition = NSCondition()
    private var queue: [@Sendable (Communicator) throws -> Void] = []
    private var submitted = 0
    private var done = 0
    private var ended = false
    private var failure: (any Error)?

    func work(_ ranks: Communicator) {
      while let next = take() {
        var failure: (any Error)?
        do { try next(ranks) } catch { failure = error }
        finish(failure)
      }
    }

    private func take() -> (@Sendable (Communicator) throws -> Void)? {
      condition.lock()
      defer { condition.unlock() }
      while queue.isEmpty {
        if ended { return nil }
        condition.wait()
      }
      return queue.removeFirst()
    }

    private func finish(_ failure: (any Error)?) {
      condition.lock()
      defer { condition.unlock() }
      done += 1
      if let failure {
        self.failure = failure
        queue = []
        ended = true
      }
      condition.broadcast()
    }

    func submit(_ work: @escaping @Sendable (Communicator) throws -> Void) -> Int {
      condition.lock()
      defer { condition.unlock() }
      submitted += 1
      if failure == nil { queue.append(work) }
      condition.broadcast()
      return submitted
    }

    func wait(for number: Int?) throws {
      condition.lock()
      defer { condition.unlock() }
      while failure == nil, done < number ?? submitted { condition.wait() }
      if let failure { throw failure }
    }

    func check() throws {
      condition.lock()
      defer { condition.unlock() }
      if let failure { throw failure }
    }

    func end() {
      condition.lock()
      defer { condition.unlock() }
      ended = true
      condition.broadcast()
    }
  }
}
