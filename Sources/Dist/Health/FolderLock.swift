internal import Foundation
internal import Synchronization
internal import Tensor

/// Keeps a folder for one job. Rank 0 creates a file in it, in which only one job can succeed, and writes a growing
/// number to it every two seconds: other jobs, on any host that shares the folder, see that this one goes on. Neither
/// clocks, which differ between hosts, nor locks of file systems, which some do not have, take part.
///
/// A job that finds the file looks at it until the number grows, and gives up. If the process has gone, which its own
/// host can see at once, or if nothing changes for a minute, the job takes the folder over.
public final class FolderLock: Sendable {
  /// The name of the file. Lists of the folder leave it out.
  static let file = ".lock"
  /// The descriptor of the folder that this job holds, in which any rank that ends the job removes the file; -1: none.
  private static let held = Atomic<Int32>(-1)
  private let folder: String
  private let own: Holder
  private let isOwner: Bool
  private let isReleased = Mutex(false)
  /// What is to be said of the job from which the folder was taken over, if it was.
  public let note: String?

  /// Takes a folder, which must exist. Every rank must call it. Throws `FolderInUse` if another job holds it, a
  /// `RankDifference` if a rank has another folder under this path, where all that it writes would be missing, and a
  /// `ThreadError` if the system refuses the thread that keeps the folder.
  public init(_ folder: String, over ranks: Communicator) throws {
    let found = try ranks.broadcast { try Self.take(folder, as: Holder(host: ranks.hostname)) }
    (self.folder, own, note, isOwner) = (folder, found.holder, found.note, ranks.rank == 0)
    if isOwner {
      do { try SystemThread.start("folder lock") { [self] in beat() } } catch {
        _ = unsafe unlink(Self.path(folder))
        throw error
      }
    }
    // Other hosts may remember for a minute that there was no such file, and a look may fall into a beat.
    let looks = own.host == ranks.hostname ? 2 : 90
    var isHere = isOwner
    for look in 0..<looks where !isHere {
      if look > 0 { Thread.sleep(forTimeInterval: 1) }
      isHere = try Self.holder(of: folder)?.id == own.id
    }
    if isHere { Self.held.store(unsafe open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), ordering: .relaxed) }
    try ranks.requireSame(
      "folder \(folder)", isHere ? own.id : "", advice: "name a folder on a disk that all nodes share")
  }

  /// Gives the folder back. Every rank calls it, unless the job ends with an error.
  public func release() {
    isReleased.withLock { isReleased in
      isReleased = true
      if isOwner { return Self.abandon() }
      let descriptor = Self.held.exchange(-1, ordering: .relaxed)
      if descriptor >= 0 { close(descriptor) }
    }
  }

  /// Gives the folder back that this job holds, if it does, because the job ends. A signal handler may call it.
  package static func abandon() {
    let descriptor = held.exchange(-1, ordering: .relaxed)
    guard descriptor >= 0 else { return }
    _ = unsafe unlinkat(descriptor, file, 0)
    close(descriptor)
  }

  private func beat() {
    var holder = own
    var isOver = false
    while !isOver {
      Thread.sleep(forTimeInterval: 2)
      isOver = isReleased.withLock { isReleased in
        if !isReleased { refresh(&holder) }
        return isReleased
      }
    }
  }

  /// Writes the next number. The file is opened each time because file systems of several hosts show what was written
  /// when it is closed. These reads and writes must not count as the rank's progress.
  private func refresh(_ holder: inout Holder) {
    guard let handle = FileHandle(forUpdatingAtPath: Self.path(folder)) else { return }
    defer { try? handle.close() }
    guard let bytes = try? handle.read(upToCount: Self.mostBytes), let found = Holder(Array(bytes)) else { return }
    guard found.id == own.id else {
      Self.held.store(-1, ordering: .relaxed)
      Job.report(
        "kinship: \(folder) was taken over by \(found.text), because this job had given no sign for "
          + "\(Self.patience.formatted()) s, or its \(Self.file) was removed: this job ends")
      Job.abort(ExitStatus.inUse.rawValue)
    }
    holder.beats += 1
    guard let next = try? holder.bytes, (try? handle.seek(toOffset: 0)) != nil else { return }
    try? handle.write(contentsOf: Data(next))
  }

  private static func path(_ folder: String) -> String { "\(folder)/\(file)" }
}

extension FolderLock {
  /// More than the file's bytes. Reading to the end would take a buffer of many pages in the midst of a step.
  static let mostBytes = 1024
  /// The seconds for which a job looks at a file that does not change.
  static let patience = 60.0

  /// The job that holds a folder, as its file describes it.
  struct Holder: Codable, Hashable, Sendable {
    let host: String
    let process: Int32
    /// When it took the folder, by the clock of its host.
    let since: String
    let id: String
    /// The kernel and the name space to which the process number belongs; nil if the system does not tell.
    let space: String?
    /// When the process began, in ticks of that kernel's clock: numbers of processes are used again.
    let began: Int?
    /// Grows as long as the job goes on.
    var beats = 0

    init(host: String) {
      (self.host, process) = (host, getpid())
      (since, id) = (Date.now.formatted(.iso8601), UUID().uuidString)
      (space, began) = (Self.space, Self.state(of: getpid())?.began)
    }

    init?(_ bytes: [UInt8]) {
      guard let holder = try? JSONDecoder().decode(Holder.self, from: Data(bytes)) else { return nil }
      self = holder
    }

    var bytes: [UInt8] { get throws { try [UInt8](JSONEncoder.readable.encode(self)) + [UInt8(ascii: "\n")] } }
    var text: String { "process \(process) on \(host), which has held it since \(since)" }

    /// True if the process ran on this kernel, and no longer does.
    var isGone: Bool {
      guard let space, space == Self.space else { return false }
      if kill(process, 0) != 0 { return errno == ESRCH }
      guard let (letter, began) = Self.state(of: process) else { return false }
      return began != self.began || letter == "Z" || letter == "X"
    }

    private static var space: String? {
      let boot = try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)
      let numbers = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/pid")
      guard let boot, let numbers else { return nil }
      return "\(boot.trimmingCharacters(in: .whitespacesAndNewlines)) \(numbers)"
    }

    /// Returns the letter of a process's state, and when the process began.
    private static func state(of process: Int32) -> (letter: Character, began: Int)? {
      guard let bytes = FileManager.default.contents(atPath: "/proc/\(process)/stat") else { return nil }
      // These are fields 3 and 22. The name of the program before them may hold anything.
      let fields = String(decoding: bytes, as: UTF8.self).split(separator: ")").last?.split(separator: " ") ?? []
      guard fields.count > 19, let letter = fields[0].first, let began = Int(fields[19]) else { return nil }
      return (letter, began)
    }
  }

  /// The job that has taken a folder, and what is to be said of the one from which it did.
  struct Possession: Codable {
    let holder: Holder
    var note: String?
  }

  /// Takes a folder for one process.
  static func take(_ folder: String, as own: Holder, patience: Double = FolderLock.patience) throws -> Possession {
    let interval = 0.25
    var possession = Possession(holder: own)
    var seen: [UInt8]?
    var looks = 0
    while true {
      if try create(folder, own) {
        if seen == nil { return possession }
        // Several jobs may take the folder over at the same moment. Once that is past, it has the file of one.
        Thread.sleep(forTimeInterval: interval)
        if try Self.holder(of: folder)?.id == own.id { return possession }
      }
      guard let bytes = try contents(path(folder)) else { continue }
      let holder = Holder(bytes)
      if let seen, bytes != seen {
        let other = (holder ?? Holder(seen))?.text ?? "another job"
        throw FolderInUse(
          description: "\(folder) is in use by \(other): wait for its end, or stop it; a folder whose job gives no "
            + "sign for \(Self.patience.formatted()) s is taken over")
      }
      seen = bytes
      let isGone = holder?.isGone ?? false
      if isGone || Double(looks) * interval >= patience {
        let reason = isGone ? "that process has gone" : "nothing has changed there for \(patience.formatted()) s"
        guard try evict(bytes, from: folder) else { continue }
        possession.note = "\(folder) is taken over from \(holder?.text ?? "an unknown job"): \(reason)"
      } else {
        looks += 1
        Thread.sleep(forTimeInterval: interval)
      }
    }
  }

  /// Creates the file, unless there is one.
  private static func create(_ folder: String, _ holder: Holder) throws -> Bool {
    let file: OpenFile
    do throws(FileError) { file = try .creating(path(folder)) } catch {
      if error.code == EEXIST { return false }
      throw error
    }
    do { try file.append(holder.bytes) } catch {
      _ = unsafe unlink(file.path)
      throw error
    }
    return true
  }

  /// Removes the file if its contents are still these, and returns whether it did.
  private static func evict(_ bytes: [UInt8], from folder: String) throws -> Bool {
    let path = path(folder)
    let aside = "\(path).\(UUID().uuidString)"
    guard try contents(path) == bytes, unsafe rename(path, aside) == 0 else { return false }
    // A job that was faster may have put its own file there between the look and the renaming. It goes back, unless a
    // third job has created one since.
    let isSame = try contents(aside) == bytes
    if !isSame { _ = unsafe link(aside, path) }
    _ = unsafe unlink(aside)
    return isSame
  }

  private static func holder(of folder: String) throws -> Holder? { try contents(path(folder)).flatMap(Holder.init) }

  /// Returns the bytes of a file; nil if there is none any more.
  private static func contents(_ path: String) throws -> [UInt8]? {
    do throws(FileError) { return try OpenFile.contents(path) } catch {
      if [ENOENT, ESTALE].contains(error.code) { return nil }
      throw error
    }
  }
}

/// Another job holds a folder.
public struct FolderInUse: ExitCoded, Hashable, CustomStringConvertible {
  public let description: String
  public var status: ExitStatus { .inUse }
  public var isShared: Bool { true }
}
