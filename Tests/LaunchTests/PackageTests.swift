import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// The launcher of an installed package, before programs that print what they were started with, and MPIs that are
/// empty files. `scripts/check-package` tries a real package in systems of its own.
@Suite struct PackageTests {
  private static let parts = TrainScene.scripts + "/package_parts"
  private let folder: TemporaryFolder
  private var launcher: String { folder.path("package/bin/kinship") }

  init() throws {
    folder = try TemporaryFolder()
    let program = """
      #!/bin/sh
      echo "program=$0 arguments=$* library_path=${LD_LIBRARY_PATH-none} opal=${OPAL_PREFIX-none}"
      """
    for level in ["x86-64-v3", "x86-64-v4"] { try write("package/libexec/kinship/\(level)/kinship", program) }
    try write("package/bin/kinship", String(contentsOfFile: Self.parts + "/kinship", encoding: .utf8))
    try write(
      "package/share/kinship/scripts/quickstart",
      #"""
      #!/bin/sh
      echo "script=$0 arguments=$* kinship=$KINSHIP data=$KINSHIP_DATA mpirun=$(command -v mpirun)"
      """#)
    // What the launcher itself calls, and no mpirun.
    for tool in ["sh", "readlink"] {
      try FileManager.default.createDirectory(atPath: folder.path("tools"), withIntermediateDirectories: true)
      try FileManager.default.createSymbolicLink(
        atPath: folder.path("tools/\(tool)"), withDestinationPath: tool == "sh" ? "/bin/sh" : "/usr/bin/readlink")
    }
    for name in ["site", "module"] { try addMPI(name) }
  }

  private func write(_ name: String, _ text: String) throws {
    let path = try folder.write(name, text.utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
  }

  private func addMPI(_ name: String) throws {
    try folder.write("\(name)/lib/libmpi.so.40", "".utf8)
    try write("\(name)/bin/mpirun", "#!/bin/sh\n")
  }

  /// Starts the launcher, or the file at `launcher`, with these folders in PATH and these variables.
  private func start(
    _ arguments: [String] = ["train"], path: [String] = [], with variables: [String] = [], launcher: String? = nil
  ) async throws -> MPIRun {
    let folders = path.map { folder.path($0) } + [folder.path("tools")]
    let unset = ["LD_LIBRARY_PATH", "OPAL_PREFIX", "KINSHIP_MPI", "KINSHIP_MARCH", "KINSHIP_DATA"]
    let set = ["PATH=\(folders.joined(separator: ":"))"] + variables
    return try await MPIRun.execute(
      ["env"] + unset.flatMap { ["-u", $0] } + set + [launcher ?? self.launcher] + arguments)
  }

  private func expect(_ run: MPIRun, _ words: String...) {
    #expect(run.status == 0 && run.errors == "", "\(run)")
    for words in words { #expect(run.output.contains(words), "expected \(words): \(run)") }
  }

  @Test func theMPIOfTheMPIRunInPath() async throws {
    let run = try await start(["train", "a file.yaml"], path: ["site/bin"])
    expect(run, "arguments=train a file.yaml library_path=\(folder.path("site/lib")) opal=none")
    // A link, as systems have it, leads to the same.
    try FileManager.default.createSymbolicLink(
      atPath: folder.path("tools/mpirun"), withDestinationPath: folder.path("site/bin/mpirun"))
    expect(try await start(), "library_path=\(folder.path("site/lib")) opal=none")
  }

  @Test func theLibraryPathComesBeforeTheMPIRunInPath() async throws {
    let folders = "\(folder.path("tools")):\(folder.path("module/lib"))"
    let run = try await start(path: ["site/bin"], with: ["LD_LIBRARY_PATH=\(folders)"])
    expect(run, "library_path=\(folders) ")
  }

  @Test func aNamedPrefixComesFirst() async throws {
    let variables = ["LD_LIBRARY_PATH=\(folder.path("module/lib"))", "KINSHIP_MPI=\(folder.path("site"))"]
    let run = try await start(with: variables)
    expect(run, "library_path=\(folder.path("site/lib")):\(folder.path("module/lib")) ")
    let wrong = try await start(with: ["KINSHIP_MPI=\(folder.path("tools"))"])
    let words = "kinship: KINSHIP_MPI=\(folder.path("tools")) is not the prefix of an Open MPI 4.1 or 5"
    #expect(wrong.status == 64 && wrong.errors.hasPrefix(words) && wrong.output == "", "\(wrong)")
  }

  /// Open MPI's wheel is installed into the same virtual environment, and has to be told where.
  @Test func theWheelBesideThePackage() async throws {
    try addMPI("package")
    try write("package/bin/ompirun_wrapper", "")
    let prefix = folder.path("package")
    expect(try await start(), "library_path=\(prefix)/lib opal=\(prefix)\n")
    let script = try await start(["quickstart", "--steps", "20"])
    expect(
      script, "script=\(prefix)/share/kinship/scripts/quickstart arguments=--steps 20 kinship=\(launcher) data=/",
      "/data mpirun=\(prefix)/bin/mpirun\n")
  }

  /// Whatever the environment says, a rank joins the MPI of the mpirun that has started it.
  @Test func theMPIOfTheMPIRunThatStartedIt() async throws {
    let module = "LD_LIBRARY_PATH=\(folder.path("module/lib"))"
    let run = try await MPIRun.execute(
      ["mpirun", "--oversubscribe", "-n", "2", "env", "-u", "KINSHIP_MPI", module, launcher, "train"], ranks: 2)
    expect(run, "/kinship arguments=train library_path=/")
    #expect(run.lines.count == 2 && !run.output.contains("library_path=\(folder.path(""))"), "\(run)")
  }

  @Test func theProgramOfTheProcessor() async throws {
    func started(_ level: String) -> String { "program=\(folder.path("package"))/libexec/kinship/\(level)/kinship " }
    let own = try #require([nil, "x86-64-v3", "x86-64-v4"][Machine.level.rawValue])
    expect(try await start(path: ["site/bin"]), started(own))
    expect(try await start(path: ["site/bin"], with: ["KINSHIP_MARCH=native"]), started(own))
    expect(try await start(path: ["site/bin"], with: ["KINSHIP_MARCH=x86-64-v3"]), started("x86-64-v3"))
    let newer = try await start(path: ["site/bin"], with: ["KINSHIP_MARCH=x86-64-v4"])
    if Machine.level == .avx512 {
      expect(newer, started("x86-64-v4"))
    } else {
      #expect(newer.status == 64 && newer.errors.contains("but this processor has no AVX-512"), "\(newer)")
    }
    let other = try await start(path: ["site/bin"], with: ["KINSHIP_MARCH=skylake"])
    #expect(other.status == 64 && other.errors.contains("found 'skylake'") && other.output == "", "\(other)")
  }

  /// The list that `scripts/package` writes makes its programs one build.
  @Test func theListOfPrograms() async throws {
    let text = try String(contentsOfFile: TrainScene.scripts + "/package", encoding: .utf8)
    let line = try #require(text.firstMatch(of: #/\n(.*sha256sum.*>programs\.sha256.*)\n/#)).1
    try write("package/libexec/kinship/x86-64-v4/kinship", "#!/bin/sh\necho another program\n")
    let run = try await MPIRun.execute(["env", "prefix=\(folder.path("package"))", "bash", "-c", String(line)])
    try #require(run.status == 0, "\(run)")
    let paths = ["x86-64-v3", "x86-64-v4"].map { folder.path("package/libexec/kinship/\($0)/kinship") }
    let sums = try paths.map { try SHA256.ofFile($0) }
    let packages = zip(paths, sums).map { Machine.packageSHA256(of: $1, at: $0) }
    #expect(sums[0] != sums[1] && packages[0] != nil && packages[0] == packages[1])
    #expect(Machine.packageSHA256(of: SHA256.hash("other".utf8).hexadecimal, at: paths[0]) == nil)
    #expect(Machine.packageSHA256(of: sums[0], at: launcher) == nil)
  }

  @Test func scriptsFindTheProgramOfTheirPackage() async throws {
    let script = folder.path("package/share/kinship/scripts/launch-mpirun")
    try copyPackagedScripts()
    let run = try await MPIRun.execute(
      ["env", "-u", "KINSHIP", "bash", script, "--ranks", "2", "--dry-run", "train", "run.yaml"])
    #expect(run.status == 0 && run.output.contains(" \(launcher) train run.yaml"), "\(run)")
  }

  /// Copies the scripts that `scripts/package` lists to where an installed package has them, and returns their names.
  @discardableResult private func copyPackagedScripts() throws -> [String] {
    let text = try String(contentsOfFile: TrainScene.scripts + "/package", encoding: .utf8)
    let list = try #require(text.firstMatch(of: #/\npackaged=\(\n([^)]*)\)/#)).1
    let names = list.split(whereSeparator: \.isWhitespace).map(String.init)
    for name in names {
      let copy = folder.path("package/share/kinship/scripts/\(name)")
      if FileManager.default.fileExists(atPath: copy) { try FileManager.default.removeItem(atPath: copy) }
      try FileManager.default.copyItem(atPath: TrainScene.scripts + "/\(name)", toPath: copy)
    }
    return names
  }

  @Test func thePackageHasWhatItsScriptsUse() async throws {
    let names = try copyPackagedScripts()
    // Recipes are copied beside the list. What builds the program, and the studies, are the source's alone.
    let others = ["recipes", "setup", "study"]
    var uses = 0
    for name in names {
      // A folder of the list has no text.
      guard let text = try? String(contentsOfFile: TrainScene.scripts + "/\(name)", encoding: .utf8) else { continue }
      for use in text.matches(of: #/(?:package_root/scripts|\$scripts)/([A-Za-z0-9_-]+)/#) {
        uses += 1
        #expect((names + others).contains(String(use.1)), "\(name) uses \(use.1)")
      }
    }
    #expect(uses > 10)
    let scripts = folder.path("package/share/kinship/scripts")
    try folder.write("sweep/sweep.tsv", "name\tseed\none\t1\n".utf8)
    let table = try await MPIRun.execute(["python3", "-B", scripts + "/sweep-table", folder.path("sweep")])
    #expect(table.status == 0 && table.output.contains("| 1 | – |"), "\(table)")
    let study = try await MPIRun.execute(["bash", scripts + "/launch-slurm", "--dry-run", "study", "plan.yaml"])
    #expect(study.status == 64 && study.errors.contains("has no scripts/study"), "\(study)")
  }

  /// A wheel of these files, installed into a virtual environment, has the layout that the launcher expects.
  @Test func aWheelInAVirtualEnvironment() async throws {
    let wheel = folder.path("kinship-\(Release.version)-py3-none-any.whl")
    let readme = try folder.write("README.md", "# Kinship\n".utf8)
    let environment = folder.path("environment")
    for command in [
      ["python3", Self.parts + "/wheel.py", folder.path("package"), wheel, readme, "1700000000"],
      ["python3", "-m", "venv", environment],
      [environment + "/bin/pip", "--quiet", "--disable-pip-version-check", "install", "--no-index", wheel],
      [environment + "/bin/pip", "check"],
    ] {
      let run = try await MPIRun.execute(["env"] + command)
      try #require(run.status == 0, "\(run)")
    }
    let run = try await start(path: ["site/bin"], launcher: environment + "/bin/kinship")
    expect(run, "program=\(environment)/libexec/kinship/", "library_path=\(folder.path("site/lib")) ")
    let script = try await start(["quickstart"], path: ["site/bin"], launcher: environment + "/bin/kinship")
    expect(script, "script=\(environment)/share/kinship/scripts/quickstart ")
  }

  @Test func theLicencesOfLinkedPackages() async throws {
    let list = "build/release/kinship.product/Objects.LinkFileList"
    try folder.write(list, "/b/Yams.build/Node.swift.o\n/b/CYaml.build/api.c.o\n/b/Launch.build/Main.swift.o\n".utf8)
    for module in ["Yams/Sources/Yams", "Yams/Sources/CYaml", "other/Sources/Other"] {
      try folder.write("build/checkouts/\(module)/source", "".utf8)
    }
    for package in ["Yams", "other"] { try folder.write("build/checkouts/\(package)/LICENSE", package.utf8) }
    try folder.write("toolchain/share/swift/LICENSE.txt", "Swift".utf8)
    let manifest = try folder.write("Package.swift", #".target(name: "Launch")"#.utf8)
    let arguments = [folder.path("licensed"), folder.path("build"), folder.path("toolchain"), manifest]
    let command = ["python3", Self.parts + "/licences.py"] + arguments
    let run = try await MPIRun.execute(["env"] + command)
    try #require(run.status == 0, "\(run)")
    let licences = folder.path("licensed/share/doc/kinship/licenses")
    let names = try FileManager.default.contentsOfDirectory(atPath: licences).sorted()
    #expect(names == ["Yams", "icu", "libyaml", "swift"])
    #expect(try String(contentsOfFile: licences + "/Yams", encoding: .utf8) == "Yams")

    try folder.write(list, "/b/Unknown.build/Unknown.swift.o\n".utf8)
    let refused = try await MPIRun.execute(["env"] + command)
    #expect(refused.status == 1 && refused.errors.contains("the program contains the module Unknown, "), "\(refused)")
  }

  /// Root of most containers may not install a system within theirs; `scripts/check-package` says what is forbidden.
  @Test func whatAContainerForbids() async throws {
    let dropped = geteuid() == 0 ? ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"] : ["env"]
    let asked = ["bash", "-c", #"source "$0"; kinship_namespaces"#, Self.parts + "/namespaces"]
    let run = try await MPIRun.execute(dropped + asked)
    #expect(run.status == 1 && run.output.contains("unshare: unshare failed"), "\(run)")
  }
}
