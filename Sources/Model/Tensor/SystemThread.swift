import Dispatch
import Foundation

/// Threads whose start is checked. Foundation's `Thread` does not tell that the system has refused one: it never runs,
/// and whoever waits for it waits for ever.
public enum SystemThread {
  /// The name of a thread, and what it runs.
  private final class Body: Sendable {
    let name: String
    let run: @Sendable () -> Void

    init(_ name: String, _ run: @escaping @Sendable () -> Void) {
      self.name = name
      self.run = run
    }
  }

  /// Starts a thread, which ends with `body`. Its stack has the system's usual size if `stackBytes` is nil.
  ///
  /// - Parameters:
  ///   - number: how many threads of its kind have started before.
  ///   - wanted: how many threads of its kind there are to be.
  /// - Throws: a `ThreadError` if the system refuses the thread.
  public static func start(
    _ name: String, after number: Int = 0, of wanted: Int = 1, stackBytes: Int? = nil,
    _ body: @escaping @Sendable () -> Void
  ) throws(ThreadError) {
    let attributes = UnsafeMutablePointer<pthread_attr_t>.allocate(capacity: 1)
    pthread_attr_init(attributes)
    defer {
      pthread_attr_destroy(attributes)
      attributes.deallocate()
    }
    if let stackBytes { pthread_attr_setstacksize(attributes, stackBytes) }
    let owned = Unmanaged.passRetained(Body(name, body))
    var thread: pthread_t = 0
    let code = pthread_create(
      &thread, attributes,
      { argument in
        let body = Unmanaged<Body>.fromOpaque((argument as UnsafeMutableRawPointer?)!).takeRetainedValue()
        Thread.current.name = body.name
        body.run()
        return nil
      }, owned.toOpaque())
    guard code == 0 else {
      owned.release()
      throw ThreadError("the thread \(name)", started: number, of: wanted, code: code)
    }
    pthread_detach(thread)
  }

  /// Throws unless the system lets this process have `count` more threads at the same time, for a library that does not
  /// check whether it gets them.
  public static func require(_ count: Int, for library: String) throws(ThreadError) {
    let found = trial(count)
    guard found.count == count else {
      throw ThreadError("the threads of \(library)", started: found.count, of: count, code: found.code)
    }
  }

  /// Starts `wanted` threads, which do nothing, and ends them. Returns how many there were at the same time, and the
  /// system's number for the error that the next one met; 0 if there was none.
  static func trial(_ wanted: Int) -> (count: Int, code: Int32) {
    let gate = DispatchSemaphore(value: 0)
    var threads: [pthread_t] = []
    var code: Int32 = 0
    while threads.count < wanted {
      var thread: pthread_t = 0
      code = pthread_create(
        &thread, nil,
        { argument in
          Unmanaged<DispatchSemaphore>.fromOpaque((argument as UnsafeMutableRawPointer?)!).takeUnretainedValue().wait()
          return nil
        }, Unmanaged.passUnretained(gate).toOpaque())
      guard code == 0 else { break }
      threads.append(thread)
    }
    for _ in threads { gate.signal() }
    for thread in threads { pthread_join(thread, nil) }
    return withExtendedLifetime(gate) { (threads.count, code) }
  }

  /// The limits on threads and what to do about them, for messages.
  public static var limits: String {
    let text = (try? String(contentsOfFile: "/proc/self/limits", encoding: .utf8)) ?? ""
    func limit(_ name: String) -> String {
      let line = text.split(separator: "\n").first { $0.hasPrefix(name) }
      return line?.dropFirst(name.count).split(separator: " ").first.map { String($0) } ?? "unknown"
    }
    return "the limit on the user's processes and threads (ulimit -u) is \(limit("Max processes")), that on bytes of "
      + "addresses (ulimit -v) \(limit("Max address space")); raise the one that is reached, or that of the control "
      + "group (pids.max), or start fewer ranks, or fewer threads (KINSHIP_THREADS)"
  }
}

/// A thread that the system has refused.
public struct ThreadError: Error, Hashable, CustomStringConvertible {
  public let description: String

  /// - Parameter what: the threads, with their article.
  init(_ what: String, started: Int, of wanted: Int, code: Int32) {
    let reason = String(cString: strerror(code))
    description = "cannot start \(what): \(reason); \(started) of \(wanted) were started; \(SystemThread.limits)"
  }
}
