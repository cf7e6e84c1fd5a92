import Dist
import Foundation
import Tensor

/// Has readers of files from outside read bytes: under libFuzzer, which `scripts/fuzz --coverage` builds this program
/// with, or those of the files that the command line names, to repeat a finding.
///
/// A reader may refuse any bytes, but it must end, stay within memory, and read the same bytes alike each time.
enum Reader: String, CaseIterable {
  case dataset, json, log, safetensors, sharded, tar, torch

  /// The most numbers of a tensor that are read.
  private static let mostNumbers = 1 << 16
  private static let mostBytes = 1 << 20

  /// Reads a file twice, and traps if that gives two results.
  func check(_ path: String) {
    let (first, second) = (outcome(path), outcome(path))
    precondition(first == second, "\(path) was read as \(first), and then as \(second)")
  }

  /// Returns what was read, or the message of the refusal.
  private func outcome(_ path: String) -> String {
    do {
      return switch self {
      case .dataset: "\(try DatasetIndex.read(path))"
      case .json: "\(try StrictJSON.parse([UInt8](Data(contentsOf: URL(filePath: path))), most: 1 << 16))"
      case .log: try text(LogReader.read(URL(filePath: path), run: "run"))
      case .safetensors: try text(SafetensorsFile(path))
      case .sharded: try text(ShardedSafetensors(path))
      case .tar: try members(TarReader(path))
      case .torch: try text(PyTorchFile(path))
      }
    } catch {
      let message = "\(error)"
      precondition(!message.isEmpty, "\(path) was refused without a message")
      return message
    }
  }

  private func text(_ weights: some NamedTensors) throws -> String {
    var text = "\(weights.metadata.sorted { $0.key < $1.key })"
    for name in weights.names {
      let (shape, type) = (try weights.shape(of: name), try weights.type(of: name))
      text += "\n\(name) \(shape) \(type)"
      guard shape.count <= Self.mostNumbers else { continue }
      if let integers = try? weights.integers(name) { text += " \(integers)" }
      let numbers = Tensor<Float>(shape)
      do {
        try weights.read(name, into: numbers)
        // The bits, because a number may be NaN.
        text += " \(numbers.array.map(\.bitPattern))"
      } catch { text += " \(error)" }
    }
    return text + "\n\(try weights.verify { _ in nil })"
  }

  private func text(_ history: RunHistory) -> String {
    let columns = history.table.figures.map { figure -> String in
      guard let values = history.table[figure]?.values else { return "\(figure) is missing" }
      // The bits, because a number may be NaN.
      return "\(figure) \((0..<values.count).map { values[$0]?.bitPattern })"
    }
    let rounds = history.evaluations.flatMap { evaluation in
      evaluation.rounds.map { round in
        "\(evaluation.name) \(round.step) \(round.figures.sorted { $0.key < $1.key })"
      }
    }
    let counts = "\(history.lines) \(history.unreadable) \(history.superseded) \(history.isTorn) \(history.seconds)"
    let last = "\(String(describing: history.outcome)) \(String(describing: history.best)) \(history.upTo(1).lastStep)"
    return "\(counts) \(history.table.steps) \(columns) \(rounds) \(history.starts) \(history.notes) "
      + "\(history.checkpoints) \(history.facts) \(last)"
  }

  private func members(_ archive: TarReader) throws -> String {
    var archive = archive
    var text = ""
    while let member = try archive.next() {
      text += "\(member)"
      if member.fault == nil { text += "\(try archive.contents(of: member, limit: Self.mostBytes))" }
    }
    return text
  }
}

#if FUZZING
  /// The reader that KINSHIP_READER names, and the file, in memory, from which it reads what libFuzzer makes.
  private let environment = ProcessInfo.processInfo.environment
  private let reader: Reader = {
    guard let name = environment["KINSHIP_READER"], let reader = Reader(rawValue: name) else {
      fatalError("KINSHIP_READER must be one of \(Reader.allCases)")
    }
    return reader
  }()
  private let file = "\(environment["KINSHIP_FUZZ_FILE"] ?? "fuzzed")"

  @_cdecl("LLVMFuzzerTestOneInput")
  public func testOneInput(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let data = unsafe Data(bytes: bytes, count: count)
    do { try data.write(to: URL(filePath: file)) } catch { fatalError("\(file): \(error)") }
    reader.check(file)
    return 0
  }

  @_silgen_name("LLVMFuzzerRunDriver")
  private func runDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ body: @convention(c) (UnsafePointer<UInt8>, Int) -> CInt
  ) -> CInt

  /// The main function by the name that the package manager gives it, in place of libFuzzer's own.
  @_cdecl("FuzzReaders_main")
  public func run(_ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> CInt {
    var (count, arguments) = unsafe (count, arguments)
    return unsafe runDriver(&count, &arguments) { unsafe testOneInput($0, $1) }
  }
#else
  @main struct FuzzReaders {
    static func main() {
      let arguments = CommandLine.arguments.dropFirst()
      guard let reader = arguments.first.flatMap(Reader.init(rawValue:)), arguments.count > 1 else {
        let readers = Reader.allCases.map(\.rawValue).joined(separator: "|")
        FileHandle.standardError.write(Data("usage: FuzzReaders \(readers) FILE…\n".utf8))
        exit(64)
      }
      for path in arguments.dropFirst() { reader.check(path) }
    }
  }
#endif
