import ArgumentParser
import Foundation
import TestSupport
import Testing

@testable import Launch

/// `scripts/install`. The manual pages, which need a build, are installed by `scripts/test`.
@Suite struct InstallTests {
  private static let script = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "scripts/install").path

  private static let completions = [
    "share/bash-completion/completions/kinship", "share/zsh/site-functions/_kinship",
    "share/fish/vendor_completions.d/kinship.fish",
  ]

  private func install(_ arguments: [String]) async throws -> MPIRun {
    try await MPIRun.execute(
      ["bash", Self.script, "--no-manual"] + arguments, ["KINSHIP": try MPIRun.path(of: "kinship")])
  }

  @Test(arguments: ["bash", "zsh", "fish"]) func completionsNameEveryCommand(shell: String) async throws {
    let run = try await MPIRun.kinship(["--generate-completion-script", shell], ranks: nil)
    #expect(run.status == 0 && run.errors == "", "\(run)")
    for command in Kinship.configuration.subcommands {
      for name in [command._commandName] + command.configuration.subcommands.map({ $0._commandName }) {
        #expect(run.output.contains(name), "\(name) is not in the completions for \(shell)")
      }
    }
  }

  @Test func programAndCompletionsAreInstalled() async throws {
    let folder = try TemporaryFolder()
    let run = try await install(["--prefix", folder.path("new/prefix")])
    #expect(run.status == 0, "\(run)")
    let files = ["bin/kinship"] + Self.completions
    #expect(run.lines == files.map { folder.path("new/prefix/\($0)") }.sorted())
    let version = try await MPIRun.execute(["env", folder.path("new/prefix/bin/kinship"), "--version"])
    #expect(version.status == 0 && version.output == "\(Release.version)\n", "\(version)")
    for file in Self.completions {
      let text = try String(contentsOfFile: folder.path("new/prefix/\(file)"), encoding: .utf8)
      #expect(text.contains("precompute") && text.contains("zero-shot"), "\(file)")
    }
  }

  @Test func aPackagersFolderStandsBeforeThePrefix() async throws {
    let folder = try TemporaryFolder()
    let run = try await install(["--destdir", folder.path("package"), "--prefix", "/opt/kinship"])
    #expect(run.status == 0, "\(run)")
    #expect(run.lines.contains(folder.path("package/opt/kinship/bin/kinship")), "\(run)")
  }

  @Test func mistakesEndWithAMessage() async throws {
    let folder = try TemporaryFolder()
    let file = try folder.write("file", "".utf8)
    for (arguments, status, message) in [
      (["--prefix"], 64, "--prefix needs a value"),
      (["--preifx", "x"], 64, "unknown argument --preifx"),
      (["--configuration", "fast"], 64, "expected release or debug, found 'fast'"),
      (["--prefix", file], 74, "cannot write to \(file)/bin; choose another --prefix"),
    ] {
      let run = try await install(arguments)
      #expect(run.status == status && run.errors.contains(message), "\(run)")
    }
    #expect(FileManager.default.fileExists(atPath: folder.path("file")))
  }
}
