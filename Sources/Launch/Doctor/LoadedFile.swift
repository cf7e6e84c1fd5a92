import Dist
import Foundation
import Tensor

/// The program, or a library whose code a process runs: where it was loaded from, and its digest.
struct LoadedFile: Sendable, Codable, Equatable {
  /// The library's name without version and build, as `libmpi`, or `kinship` for the program itself.
  var name: String
  var path: String
  /// The file's SHA-256; nil if it cannot be read, for instance because it was replaced since the program started.
  var sha256: String?
  /// For a program of an installed package, the digest that both of its programs share (`Machine.packageSHA256`).
  var packageSHA256: String?
  /// The digest that files of one build have in common.
  fileprivate var build: String? { packageSHA256 ?? sha256 }

  static let program = "kinship"
  /// The libraries on which numbers, messages and files depend.
  private static let libraries = [
    "libmpi", "libopen-pal", "libopen-rte", "libpmix", "libucp", "libfabric", "libpsm2", "libopenblas", "libdnnl",
    "libhdf5", "libjpeg", "libpng16", "libwebp", "libcrypto", "libz", "libm", "libc", "libswiftCore",
  ]
  /// Those whose names go on with the way they were built: `libopenblasp-r0.3.21`, `libhdf5_serial`.
  private static let families = ["libopenblas", "libdnnl", "libhdf5"]
}

extension LoadedFile {
  /// A file that is mapped into a process, with what tells it from another file under the same path.
  struct Mapped: Sendable, Codable, Hashable {
    var name: String
    var path: String
    /// The numbers of device and file.
    var identity: String
  }

  /// Reads the lines of a process's `maps` and lists the program at `program` and the libraries, each once and by name.
  static func mapped(_ maps: String, program: String) -> [Mapped] {
    var found: Set<Mapped> = []
    for line in maps.split(separator: "\n") {
      // Addresses, rights, offset, device, number of the file, and its path, which may contain spaces.
      let fields = line.split(separator: " ", maxSplits: 5)
      guard fields.count == 6 else { continue }
      let path = fields[5].trimmingCharacters(in: .whitespaces)
      let name = path == program ? Self.program : library(path)
      guard path.hasPrefix("/"), let name else { continue }
      found.insert(Mapped(name: name, path: path, identity: "\(fields[3]) \(fields[4])"))
    }
    func order(_ file: Mapped) -> Int { libraries.firstIndex(of: file.name) ?? -1 }
    return found.sorted { (order($0), $0.path) < (order($1), $1.path) }
  }

  /// Returns the name of a library at a path; nil for any other file.
  private static func library(_ path: String) -> String? {
    let file = path.split(separator: "/").last ?? ""
    guard let end = file.firstRange(of: ".so")?.lowerBound else { return nil }
    let stem = String(file[..<end])
    // A library of a wheel has a part of its digest behind its name: `libjpeg-4d5f3a2b`.
    return libraries.first { name in
      stem == name || stem.hasPrefix("\(name)-") || families.contains(name) && stem.hasPrefix(name)
    }
  }

  /// Lists the files of this process. The ranks of a node share the work of reading them. Every rank must call it.
  static func all(over ranks: Communicator) throws -> [LoadedFile] {
    let maps = SystemFile.text("/proc/self/maps") ?? ""
    let program = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
    let own = mapped(maps, program: program)
    let node = try ranks.node()
    let union = Set(try node.allGather(own).joined()).sorted { ($0.path, $0.identity) < ($1.path, $1.identity) }
    // In containers a path of another rank may lead to another file here, or to none; then this rank reads its own.
    let mine = union.indices.filter { $0 % node.size == node.rank && own.contains(union[$0]) }
    var read: [String: String] = [:]
    for index in mine { read["\(index)"] = digest(union[index].path) }
    var sums: [String: String] = [:]
    for part in try node.allGather(read) { sums.merge(part) { $1 } }
    return own.map { file in
      let shared = union.firstIndex(of: file).flatMap { sums["\($0)"] }
      var loaded = LoadedFile(name: file.name, path: file.path, sha256: shared ?? digest(file.path))
      if file.name == Self.program {
        loaded.packageSHA256 = loaded.sha256.flatMap { Machine.packageSHA256(of: $0, at: file.path) }
      }
      return loaded
    }
  }

  private static func digest(_ path: String) -> String? { try? SHA256.ofFile(path) }

  /// The version that the file's name tells, behind `.so.` or before it; empty if it tells none.
  var version: String {
    let file = String(path.split(separator: "/").last ?? "")
    guard let end = file.firstRange(of: ".so") else { return "" }
    let behind = file[end.upperBound...].drop { $0 == "." }
    return String(behind.prefix { $0.isNumber || $0 == "." })
  }

  /// `/usr/lib/libmpi.so.40.30.4 (3f2a91c0)`.
  fileprivate var text: String { "\(path) (\(sha256?.prefix(8) ?? "unreadable"))" }
}

extension [RankReport] {
  /// Lists where the libraries of rank 0 were loaded from, with the versions that they say themselves, if it is known.
  var libraryLines: [String] {
    guard let first, let files = first.files, !files.isEmpty else { return [] }
    let versions = [
      "libmpi": first.mpi, "libopenblas": first.blas.split(separator: " ").prefix(2).joined(separator: " "),
      "libdnnl": first.oneDNN.map { "\($0.name) \($0.version)" } ?? "", "libhdf5": "HDF5 \(first.hdf5)",
      LoadedFile.program: Release.version,
    ]
    let isSame = allSatisfy { $0.files?.map(\.build) == files.map(\.build) }
    let others = isSame ? "the same on all ranks" : "which not all ranks have"
    return ["program and libraries\(count == 1 ? "" : " of rank 0, \(others)")"]
      + files.map { file in
        let version = [versions[file.name], file.version].compactMap { $0 }.first { !$0.isEmpty }
        return DoctorReport.fact(file.name, [version, file.path].compactMap { $0 }.joined(separator: "  "))
      }
  }

  /// Returns the differences of program and libraries from those of rank 0, each with the hosts that have it, and which
  /// ranks run which program of a package.
  var buildFindings: [String] {
    guard let first, let files = first.files else { return [] }
    var found: [String] = []
    let others = Dictionary(grouping: dropFirst().filter { $0.files != nil }) { report in
      Self.differences(report.files ?? [], from: files)
    }
    for (differences, reports) in others.sorted(by: { $0.value[0].rank < $1.value[0].rank }) where !differences.isEmpty
    {
      let hosts = TransportReport.list(reports.map(\.hostname))
      let names = differences.prefix(3).joined(separator: "; ")
      let more = differences.count > 3 ? "; and \(differences.count - 3) more" : ""
      found.append(
        "\(hosts) (\(Diagnosis.name(reports.map(\.rank)))): other builds than rank 0 on \(first.hostname) has: \(names)"
          + "\(more); copy one build of kinship and install the same releases on every node, or results differ in their"
          + " last bits")
    }
    return found + programFindings
  }

  /// Returns for each package of which ranks run different programs, which of them run which.
  private var programFindings: [String] {
    var packages: [String: [RankReport]] = [:]
    for report in self {
      if let package = report.program?.packageSHA256 { packages[package, default: []].append(report) }
    }
    return packages.values.sorted { $0[0].rank < $1[0].rank }.compactMap { reports in
      let programs = Dictionary(grouping: reports) { $0.program?.sha256 }
      guard programs.count > 1 else { return nil }
      let parts = programs.values.sorted { $0[0].rank < $1[0].rank }.map { reports in
        "\(reports[0].built?.name ?? "another processor's") on \(Diagnosis.name(reports.map(\.rank)))"
      }
      let lowest = reports.compactMap(\.built).min()?.name ?? "one of its levels"
      return "ranks run different programs of one package (\(parts.joined(separator: ", "))); set"
        + " KINSHIP_MARCH=\(lowest) everywhere (mpirun -x), or results differ in their last bits"
    }
  }

  /// Returns the files that are not the same in both lists, each with both paths.
  private static func differences(_ files: [LoadedFile], from expected: [LoadedFile]) -> [String] {
    func texts(_ files: [LoadedFile], _ name: String) -> String {
      let texts = files.filter { $0.name == name }.map(\.text)
      return texts.isEmpty ? "not loaded" : texts.joined(separator: " and ")
    }
    func builds(_ files: [LoadedFile], _ name: String) -> [String] {
      files.filter { $0.name == name }.map { $0.build ?? "" }.sorted()
    }
    var seen: Set<String> = []
    return (expected + files).map(\.name).filter { seen.insert($0).inserted }.compactMap { name in
      guard builds(files, name) != builds(expected, name) else { return nil }
      return "\(name) \(texts(files, name)), on rank 0 \(texts(expected, name))"
    }
  }
}
