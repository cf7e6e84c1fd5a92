import Foundation
import TestSupport
import Testing

/// What all scripts do alike: their help, options and refusals, and what is left of them when they are stopped.
@Suite struct ScriptTests {
  /// The scripts that can be called: not `setup`, which is for sourcing, nor `torch_step.py`, which needs PyTorch.
  static let names: [String] = {
    let files = FileManager.default
    let found = (try? files.contentsOfDirectory(atPath: TrainScene.scripts)) ?? []
    return found.filter { name in
      var isFolder: ObjCBool = false
      let path = "\(TrainScene.scripts)/\(name)"
      let isThere = files.fileExists(atPath: path, isDirectory: &isFolder)
      return isThere && !isFolder.boolValue && files.isExecutableFile(atPath: path)
        && !["setup", "torch_step.py"].contains(name)
    }.sorted()
  }()

  private let folder = try! TemporaryFolder()

  private func program(_ name: String, _ text: String) throws -> String {
    let path = try folder.write(name, text.utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
    return path
  }

  /// Writes a script with the head that all Bash scripts have.
  private func script(_ body: String) throws -> String {
    try program(
      "a script",
      """
      #!/usr/bin/env bash
      # The help of a script.
      set -euo pipefail
      source '\(TrainScene.scripts)/command_line/script.bash'
      \(body)
      """)
  }

  @Test func thereAreScripts() { #expect(Self.names.count > 40, "\(Self.names)") }

  @Test(arguments: names) func helpGoesToStandardOutput(_ name: String) async throws {
    let run = try await MPIRun.execute(["env", "\(TrainScene.scripts)/\(name)", "--help"])
    #expect(run.status == 0 && run.output.contains("scripts/") && run.errors.isEmpty, "\(run)")
  }

  /// A wrapper finds its Python program by whatever link it is called.
  @Test(arguments: ["cluster-check", "fuzz", "kill-test"]) func aLinkLeadsToTheProgram(_ name: String) async throws {
    let link = folder.path("a link")
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "\(TrainScene.scripts)/\(name)")
    let run = try await MPIRun.execute(["env", link, "--dry-run"])
    #expect(run.status == 0 && run.errors.isEmpty, "\(run)")
  }

  /// Bash scripts and Python programs have data in the same folder, wherever they are called and go.
  @Test(arguments: [true, false]) func theFolderOfData(isSource: Bool) async throws {
    let (package, outside) = (folder.path("a package"), folder.path("elsewhere"))
    for path in [package + "/scripts", outside] {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    try FileManager.default.copyItem(
      atPath: TrainScene.scripts + "/command_line", toPath: package + "/scripts/command_line")
    if isSource { try folder.write("a package/Package.swift", "".utf8) }
    let script = try program(
      "a package/scripts/a script",
      """
      #!/usr/bin/env bash
      set -euo pipefail
      source "$(dirname "$(readlink -f "$0")")/command_line/script.bash"
      [[ -z ${KINSHIP_DATA:-} ]] || cd /
      name_data
      echo "$data"
      python3 -B -c '
      import os, sys
      sys.path.insert(0, sys.argv[1])
      from command_line.data import data_folder
      print(os.path.abspath(data_folder()))' "$package_root/scripts"
      """)
    for (place, named, expected) in [
      (package, nil, package + "/data"), (outside, nil, (isSource ? package : outside) + "/data"),
      (outside, "some/data", outside + "/some/data"), (outside, "/some/data", "/some/data"),
    ] as [(String, String?, String)] {
      let variable = named.map { ["KINSHIP_DATA=\($0)"] } ?? []
      let run = try await MPIRun.execute(["env", "-u", "KINSHIP_DATA", "-C", place] + variable + ["bash", script])
      #expect(run.status == 0 && run.output == "\(expected)\n\(expected)\n", "\(run)")
    }
  }

  /// A Python program names the program that it starts on ranks, whatever the environment has.
  @Test func onRanksTheGivenProgramStarts() async throws {
    let (given, other) = (try program("given", "#!/bin/sh\n"), try program("other", "#!/bin/sh\n"))
    let code = """
      import sys
      sys.path.insert(0, sys.argv[1])
      from command_line.program import execute, on_ranks
      sys.exit(execute([*on_ranks(sys.argv[2], 1, 1), "--dry-run", "doctor"]).returncode)
      """
    let run = try await MPIRun.execute(["python3", "-B", "-c", code, TrainScene.scripts, given], ["KINSHIP": other])
    #expect(run.status == 0 && run.output.contains(" \(given) doctor") && !run.output.contains(other), "\(run)")
  }

  @Test func optionsAndWords() async throws {
    let script = try script(
      """
      ranks='' dry_run=no sets=()
      take_options "${MODE:-words}" --ranks=ranks --dry-run:dry_run=yes --set+=sets -- "$@"
      expect_number --ranks "$ranks"
      echo "ranks=$ranks dry_run=$dry_run sets=${sets[*]-} words=${words[*]-}"
      """)
    for (mode, arguments, status, words) in [
      (
        "words", ["--ranks", "2", "a", "--set=x=1", "--set", "y", "--", "-b"], 0,
        "ranks=2 dry_run=no sets=x=1 y words=a -b"
      ),
      ("command", ["--dry-run", "a", "--ranks", "2"], 0, "ranks= dry_run=yes sets= words=a --ranks 2"),
      ("nothing", ["-h"], 0, "The help of a script."),
      ("words", ["--ranks"], 64, "a script: --ranks needs a value"),
      ("words", ["--ranks="], 64, "a script: --ranks needs a value"),
      ("words", ["--ranks", "02"], 64, "a script: --ranks: expected a number from 1, found '02'"),
      (
        "words", ["--ranks", "1000000000"], 64,
        "a script: --ranks: expected a number of at most 999999999, found '1000000000'"
      ),
      ("words", ["--rank"], 64, "a script: unknown option --rank; see scripts/a script --help"),
      ("nothing", ["a"], 64, "a script: unknown argument a; see scripts/a script --help"),
    ] {
      let run = try await MPIRun.execute(["env", script] + arguments, ["MODE": mode])
      let said = status == 0 ? run.output : run.errors
      #expect(run.status == status && said == "\(words)\n", "\(arguments): \(run)")
    }
  }

  /// Starts a command, sends it TERM when the file `child` has the number of a process that it waits for, and returns
  /// its exit code and whether that process has ended.
  private func stop(_ command: [String], _ environment: [String: String] = [:]) async throws -> MPIRun {
    let stopping = """
      child=$1
      shift
      "$@" &
      until [[ -s $child ]]; do kill -0 $! || exit 1; sleep 0.05; done
      kill -TERM $!
      status=0
      wait $! || status=$?
      echo "status $status"
      # What has ended may still wait for its parent to notice.
      living='^State:[[:space:]]*[^ZX[:space:]]'
      if grep -qs "$living" "/proc/$(<"$child")/status"; then echo running; else echo ended; fi
      """
    return try await MPIRun.execute(
      ["bash", "-euc", stopping, "bash", folder.path("child")] + command, environment)
  }

  @Test func aScriptThatIsStoppedEndsItsCommandAndRemovesItsFolder() async throws {
    let script = try script(
      #"""
      temporary_folder work
      echo "$work" >'\#(folder.path("work"))'
      bash -c 'echo $$ >"$1"; exec sleep 1000' bash '\#(folder.path("child"))'
      """#)
    let run = try await stop([script])
    #expect(run.output == "status 143\nended\n" && run.leftBehind.isEmpty, "\(run)")
    let work = try String(contentsOfFile: folder.path("work"), encoding: .utf8)
    let path = work.trimmingCharacters(in: .newlines)
    #expect(!path.isEmpty && !FileManager.default.fileExists(atPath: path), "\(path)")
  }

  /// The Python programs do the same.
  @Test func aProgramThatIsStoppedEndsItsCommand() async throws {
    let kinship = try program("kinship", "#!/bin/sh\necho $$ >'\(folder.path("child"))'\nexec sleep 1000\n")
    let run = try await stop(["python3", "-B", "\(TrainScene.scripts)/paper-hours"], ["KINSHIP": kinship])
    #expect(run.output == "status 75\nended\n" && run.errors == "paper-hours: stopped\n", "\(run)")
    #expect(run.leftBehind.isEmpty)
  }

  /// A stand-in for python3 makes environments whose pip notes what it is asked.
  @Test func aPythonEnvironmentAppearsWholeOrNotAtAll() async throws {
    _ = try program(
      "tools/python3",
      #"""
      #!/bin/sh
      mkdir -p "$3/bin"
      : >"$3/pyvenv.cfg"
      cat >"$3/bin/python" <<'PYTHON'
      #!/bin/sh
      case "$1 $3" in
        '-m --version') exit 0 ;;
        -c*) [ -e "$(dirname "$0")/installed" ] ;;
        *) echo "$*" >>'\#(folder.path("asked"))'; [ -z "$BROKEN" ] && : >"$(dirname "$0")/installed" ;;
      esac
      PYTHON
      chmod +x "$3/bin/python"
      """#)
    let path = try #require(ProcessInfo.processInfo.environment["PATH"])
    let place = folder.path("of two words/venv")
    func make(_ environment: [String: String], place: String? = nil) async throws -> MPIRun {
      let own = ["PATH": "\(folder.path("tools")):\(path)", "PYTHON": "", "BROKEN": ""]
      return try await MPIRun.execute(
        [
          "env", "\(TrainScene.scripts)/python-environment", "--check", "import a", "--alone", "b==2",
          place ?? folder.path("of two words/venv"), "a>=1",
        ], own.merging(environment) { $1 })
    }
    let broken = try await make(["BROKEN": "yes"])
    #expect(broken.status == 69 && broken.errors.contains("pip cannot install a>=1 b==2 into \(place); "), "\(broken)")
    let left = try FileManager.default.contentsOfDirectory(atPath: folder.path("of two words"))
    #expect(left.isEmpty, "\(left)")
    try FileManager.default.removeItem(atPath: folder.path("asked"))
    for _ in 0..<2 {
      let made = try await make([:])
      #expect(made.status == 0 && made.output == "\(place)/bin/python\n", "\(made)")
    }
    let asked = try String(contentsOfFile: folder.path("asked"), encoding: .utf8).split(separator: "\n")
    #expect(asked.count == 2 && asked[0].hasSuffix(" --quiet a>=1"), "\(asked)")
    #expect(asked.last?.hasSuffix(" --quiet --no-deps b==2") == true, "\(asked)")
    let lacking = try await make(["PYTHON": "/bin/false"])
    #expect(lacking.status == 64 && lacking.errors.contains("PYTHON names /bin/false, which lacks one of: a>=1 b==2; "))
    let named = try await make(["PYTHON": "/bin/true"])
    #expect(named.status == 0 && named.output == "/bin/true\n", "\(named)")
    // A folder of other files is nobody's environment.
    let taken = try await make([:], place: folder.path("tools"))
    #expect(taken.status == 64 && taken.errors.contains("is no virtual environment, and is not empty"), "\(taken)")
    #expect(FileManager.default.fileExists(atPath: folder.path("tools/python3")))
  }
}
