import Foundation

/// Headless Chromium, looking at a page as a reader does.
public struct Browser: Sendable {
  public var width: Int
  public var height = 900
  public var isDark = false

  public static let program = "chromium-headless-shell"

  public init(width: Int, isDark: Bool = false) { (self.width, self.isDark) = (width, isDark) }

  /// What it saw.
  public struct Sight: Sendable {
    /// The document as it was in the end, as HTML.
    public let document: String
    /// What is drawn, as a PNG file.
    public let screenshot: [UInt8]
    /// What the console said: errors of scripts and of pictures, and what the page's policy has refused.
    public let console: [String]
    /// What it tried to load from a network. There is none: every name leads nowhere.
    public let requests: [String]
  }

  /// Opens a page from its file. Its files of its own go to `folder`.
  public func open(_ path: String, in folder: TemporaryFolder) async throws -> Sight {
    let name = UUID().uuidString
    let (screenshot, network) = (folder.path("\(name).png"), folder.path("\(name).json"))
    let run = try await MPIRun.execute([
      Self.program, "--headless", "--disable-gpu", "--hide-scrollbars",
      // Its sandbox wants another user than root, which is who runs tests in containers.
      "--no-sandbox",
      // Containers have little shared memory.
      "--disable-dev-shm-usage", "--user-data-dir=\(folder.path(name))", "--enable-logging=stderr",
      "--log-net-log=\(network)",
      "--host-resolver-rules=MAP * ~NOTFOUND", "--blink-settings=preferredColorScheme=\(isDark ? 0 : 1)",
      "--window-size=\(width),\(height)", "--screenshot=\(screenshot)", "--dump-dom",
      URL(filePath: path).absoluteString,
    ])
    guard run.status == 0, let png = FileManager.default.contents(atPath: screenshot),
      let log = FileManager.default.contents(atPath: network)
    else { throw Failure(run: run) }
    let requests = String(decoding: log, as: UTF8.self).matches(of: #/"url":"([^"]*)"/#).map { String($0.1) }
    return Sight(
      document: run.output, screenshot: [UInt8](png),
      console: run.errors.split(separator: "\n").filter { $0.contains(":CONSOLE:") }.map(String.init),
      requests: Array(Set(requests)).sorted())
  }

  public struct Failure: Error {
    public let run: MPIRun
  }
}
