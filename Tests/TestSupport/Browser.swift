import Foundation

/// Headless Chromium, which renders a page as a reader sees it.
public struct Browser: Sendable {
  public var width: Int
  public var height = 900
  public var isDark = false

  public static let program = "chromium-headless-shell"

  public init(width: Int, isDark: Bool = false) { (self.width, self.isDark) = (width, isDark) }

  /// The result of opening a page.
  public struct Sight: Sendable {
    /// The final document as HTML.
    public let document: String
    /// The rendered page as a PNG file.
    public let screenshot: [UInt8]
    /// The lines of the console: errors of scripts and images, and violations of the page's policy.
    public let console: [String]
    /// The URLs that the page tried to load. There is no network: no host name can be resolved.
    public let requests: [String]
  }

  /// Opens the page in the file at `path`. The browser's own files go to `folder`.
  public func open(_ path: String, in folder: TemporaryFolder) async throws -> Sight {
    let name = UUID().uuidString
    let (screenshot, network) = (folder.path("\(name).png"), folder.path("\(name).json"))
    let run = try await MPIRun.execute([
      Self.program, "--headless", "--disable-gpu", "--hide-scrollbars",
      // The sandbox does not work as root, and tests in containers run as root.
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
