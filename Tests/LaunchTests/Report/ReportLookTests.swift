import Dist
import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

/// Checks the look of a report in a real browser.
@Suite(.serialized, .requires(.browser)) struct ReportLookTests {
  let folder: TemporaryFolder
  /// A page with every kind of chart and with images.
  let page: String
  /// A page that compares the run with itself.
  let pair: String

  init() async throws {
    let scene = try await TrainScene()
    folder = scene.folder
    try await scene.train("look", ["steps=60"], ranks: nil)
    try RichLog.enrich(scene.runFolder("look").appending(path: RunLog.fileName))
    page = folder.path("page.html")
    pair = folder.path("pair.html")
    let run = scene.runFolder("look").path
    let both = try await MPIRun.kinship(["report", run, run, "--output", pair], ranks: nil)
    try #require(both.status == 0, "\(both)")
    let written = try await MPIRun.kinship(
      ["report", run, "--dataset", scene.dataset, "--examples", "3", "--output", page],
      ranks: nil)
    try #require(written.status == 0, "\(written)")
  }

  /// The layout of a page, as the probe script reports it.
  private struct Layout: Decodable {
    struct Box: Decodable {
      var left: Double
      var top: Double
      var width: Double
      var height: Double

      /// The pixels that lie entirely inside.
      var pixels: (across: Range<Int>, down: Range<Int>) {
        (Int(left.rounded(.up))..<Int(left + width), Int(top.rounded(.up))..<Int(top + height))
      }
    }
    struct ChartBox: Decodable {
      var title: String
      var box: Box
      /// The computed colours of the lines, in the order in which they are drawn.
      var colors: [String]
      var readout: String
    }
    struct Image: Decodable {
      var width: Int
      var alt: String
      var box: Box
    }
    var width: Int
    var scrollWidth: Int
    var scrollHeight: Int
    var ground: String
    var ink: String
    var font: Double
    var charts: [ChartBox]
    var images: [Image]
  }

  private static let probe = """
    const box = (element) => {
      const b = element.getBoundingClientRect();
      return {left: b.left + scrollX, top: b.top + scrollY, width: b.width, height: b.height};
    };
    const charts = [...document.querySelectorAll("figure.chart")].map((figure) => {
      const svg = figure.querySelector("svg");
      const b = svg.getBoundingClientRect();
      const place = {clientX: b.left + b.width * 0.6, clientY: b.top + b.height / 2};
      svg.dispatchEvent(new PointerEvent("pointermove", place));
      const readout = figure.querySelector(".readout");
      const text = readout ? [...readout.children].map((span) => span.textContent).join("|") : "";
      svg.dispatchEvent(new PointerEvent("pointerleave", place));
      return {title: figure.querySelector("h4").textContent, box: box(svg), readout: text,
        colors: [...svg.querySelectorAll("path[data-name]")].map((path) => getComputedStyle(path).stroke)};
    });
    const images = [...document.images].map((i) => ({width: i.naturalWidth, alt: i.alt, box: box(i)}));
    const root = document.documentElement;
    const body = getComputedStyle(document.body);
    const found = {width: root.clientWidth, scrollWidth: root.scrollWidth, scrollHeight: root.scrollHeight,
      ground: body.backgroundColor, ink: body.color, font: parseFloat(body.fontSize), charts, images};
    const out = document.createElement("pre");
    out.id = "probe";
    out.textContent = JSON.stringify(found);
    document.body.append(out);
    """

  /// Opens a copy of the page that also runs the probe.
  private func layout(_ page: String, _ browser: Browser) async throws -> Layout {
    let hash = Data(SHA256.hash(Self.probe.utf8).bytes).base64EncodedString()
    let text = try String(contentsOf: URL(filePath: page), encoding: .utf8)
      .replacing("script-src ", with: "script-src 'sha256-\(hash)' ", maxReplacements: 1)
      .replacing("</body>", with: "<script>\(Self.probe)</script></body>")
    let copy = folder.path("probed-\(UUID().uuidString).html")
    try text.write(toFile: copy, atomically: true, encoding: .utf8)
    let sight = try await browser.open(copy, in: folder)
    let json = try #require(sight.document.firstMatch(of: #/<pre id="probe">(.*?)<\/pre>/#), "\(sight.console)")
    var plain = String(json.1)
    for (entity, character) in [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&nbsp;", "\u{A0}"), ("&amp;", "&")] {
      plain = plain.replacingOccurrences(of: entity, with: character)
    }
    return try JSONDecoder().decode(Layout.self, from: Data(plain.utf8))
  }

  /// Parses `rgb(1, 2, 3)`.
  private func color(_ text: String) throws -> [Int] {
    let found = try #require(text.firstMatch(of: #/([0-9]+), ([0-9]+), ([0-9]+)/#), "\(text)")
    return [found.1, found.2, found.3].compactMap { Int($0) }
  }

  /// The contrast (L1 + 0.05) / (L2 + 0.05) of the relative luminances of two colours, the lighter first, as WCAG
  /// defines it.
  private func contrast(_ some: [Int], _ other: [Int]) -> Double {
    func luminance(_ color: [Int]) -> Double {
      let linear = color.map { pow((Double($0) / 255 + 0.055) / 1.055, 2.4) }
      return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    }
    let (one, two) = (luminance(some), luminance(other))
    return (max(one, two) + 0.05) / (min(one, two) + 0.05)
  }

  /// Returns whether a chart's last line is visible; no other line covers it.
  private func isDrawn(_ chart: Layout.ChartBox, on screen: Screen) throws -> Bool {
    let (across, down) = chart.box.pixels
    return screen.count(of: try color(try #require(chart.colors.last)), in: across, down) >= 20
  }

  @Test func itLooksAsItShould() async throws {
    for width in [1280, 390] {
      for isDark in [false, true] { try await look(width: width, isDark: isDark) }
    }
  }

  @Test func runsSideBySideFitTheScreen() async throws {
    for width in [1280, 390] {
      let browser = Browser(width: width)
      let layout = try await layout(pair, browser)
      #expect(
        layout.scrollWidth <= width && layout.charts.count >= 10 && layout.charts.allSatisfy { $0.colors.count == 2 })
      let sight = try await browser.open(pair, in: folder)
      #expect(sight.console == [] && sight.requests == [])
    }
  }

  private func look(width: Int, isDark: Bool) async throws {
    var browser = Browser(width: width, isDark: isDark)
    let layout = try await layout(page, browser)
    #expect(
      layout.width == width && layout.scrollWidth <= width,
      "wider than the screen: \(layout.scrollWidth)")
    let titles = layout.charts.map(\.title)
    for title in [
      "loss", "clip", "fd", RichLog.hostileTerm, "learning rate", "logit scale", "gradient norm", "divergence",
      "throughput", "gradients of the terms",
    ] {
      #expect(titles.contains(title), "\(title) of \(titles)")
    }
    #expect(layout.images.count >= 3 * 5 + 3 && layout.images.allSatisfy { $0.width > 0 && !$0.alt.isEmpty })
    #expect(layout.images.allSatisfy { $0.box.width >= 40 && $0.box.left + $0.box.width <= Double(width) })
    for chart in layout.charts {
      #expect(chart.box.width >= 300 && chart.box.left >= 0 && chart.box.left + chart.box.width <= Double(width))
      #expect(chart.readout.firstMatch(of: #/^step [0-9]+\|.*[0-9]/#) != nil, "\(chart.title): \(chart.readout)")
    }

    // The page itself, all of it.
    browser.height = layout.scrollHeight
    let sight = try await browser.open(page, in: folder)
    #expect(sight.console == [] && sight.requests == [])
    var decoder = ImageDecoder()
    let image = try decoder.decode(sight.screenshot)
    try #require(image.width == width && image.height == layout.scrollHeight)
    let screen = Screen(image)
    let ground = try color(layout.ground)
    #expect(screen.share(of: ground, in: 0..<width, 0..<8) == 1)
    #expect(isDark ? ground.allSatisfy { $0 < 60 } : ground.allSatisfy { $0 > 240 })
    #expect(contrast(ground, try color(layout.ink)) >= 7)
    for chart in layout.charts {
      let (across, down) = chart.box.pixels
      #expect(screen.share(of: ground, in: across, down) < 0.99, "\(chart.title) is blank")
      #expect(contrast(ground, try color(try #require(chart.colors.last))) >= 3, "\(chart.title)")
      #expect(try isDrawn(chart, on: screen), "\(chart.title) lacks its line")
      #expect(Set(chart.colors).count == chart.colors.count, "\(chart.title) has two lines of a colour")
    }
    for shown in layout.images {
      let (across, down) = shown.box.pixels
      #expect(screen.colors(in: across, down).count > 8, "\(shown.alt) is blank")
    }
  }

  /// The checks above fail on a page that is wrong.
  @Test func aBadPageIsSeenToBeBad() async throws {
    let bad = folder.path("bad.html")
    let text = """
      <!DOCTYPE html><meta http-equiv="Content-Security-Policy" content="script-src 'unsafe-inline' "><title>bad</title>
      <body><p id="wide">x</p><style>#wide { width: 3000px }</style><img src="http://example.invalid/a.png" alt="">
      <script>console.error("oh")</script></body>
      """
    try text.write(toFile: bad, atomically: true, encoding: .utf8)
    let browser = Browser(width: 390)
    let sight = try await browser.open(bad, in: folder)
    #expect(sight.console.count == 1 && sight.requests == ["http://example.invalid/a.png"])
    // The policy of reports refuses scripts that are not theirs, and says so.
    let page = try String(contentsOf: URL(filePath: page), encoding: .utf8)
    try page.replacing(
      "</main>", with: "<script>document.title = 1</script><img src=\"http://example.invalid/b.png\"></main>"
    )
    .write(toFile: bad, atomically: true, encoding: .utf8)
    let refused = try await browser.open(bad, in: folder)
    #expect(refused.console.count == 2 && refused.requests == [] && !refused.document.contains("<title>1</title>"))
    try page.replacing("</main>", with: "<pre class=\"tiles\">\(String(repeating: "x", count: 500))</pre></main>")
      .write(toFile: bad, atomically: true, encoding: .utf8)
    #expect(try await layout(bad, browser).scrollWidth > 390)
    try page.replacing(#/(<path class="line[^>]*?) d="[^"]*"/#) { "\($0.1) d=\"\"" }
      .write(toFile: bad, atomically: true, encoding: .utf8)
    let layout = try await layout(bad, browser)
    var decoder = ImageDecoder()
    var tall = browser
    tall.height = layout.scrollHeight
    let screen = Screen(try decoder.decode(try await tall.open(bad, in: folder).screenshot))
    for chart in layout.charts { #expect(try !isDrawn(chart, on: screen), "\(chart.title)") }
  }

  /// Without the script every chart still has its caption.
  @Test func allIsThereWithoutAScript() async throws {
    let page = try String(contentsOf: URL(filePath: page), encoding: .utf8)
    let still = folder.path("still.html")
    let script = try #require(page.firstRange(of: "<script>")?.lowerBound)
    try (page[..<script] + "</body></html>").write(toFile: still, atomically: true, encoding: .utf8)
    let sight = try await Browser(width: 1280).open(still, in: folder)
    #expect(sight.console == [])
    for caption in sight.document.matches(of: #/<figcaption[^>]*>(.*?)<\/figcaption>/#) {
      #expect(caption.1.contains("last") || caption.1.contains(#/[0-9]/#), "\(caption.1)")
    }
  }
}

/// The pixels of a screenshot.
private struct Screen {
  let width: Int
  let rgb: [UInt8]

  init(_ image: RGBImage) { (width, rgb) = (image.width, image.rgb) }

  private func each(_ across: Range<Int>, _ down: Range<Int>, _ body: (Int, Int, Int) -> Void) {
    for y in down {
      for x in across {
        let at = 3 * (y * width + x)
        body(Int(rgb[at]), Int(rgb[at + 1]), Int(rgb[at + 2]))
      }
    }
  }

  /// The number of pixels whose colour equals `color` or nearly so.
  func count(of color: [Int], in across: Range<Int>, _ down: Range<Int>) -> Int {
    var count = 0
    each(across, down) { r, g, b in
      if abs(r - color[0]) <= 24, abs(g - color[1]) <= 24, abs(b - color[2]) <= 24 { count += 1 }
    }
    return count
  }

  func share(of color: [Int], in across: Range<Int>, _ down: Range<Int>) -> Double {
    Double(count(of: color, in: across, down)) / Double(across.count * down.count)
  }

  func colors(in across: Range<Int>, _ down: Range<Int>) -> Set<Int> {
    var found: Set<Int> = []
    each(across, down) { r, g, b in found.insert(r << 16 | g << 8 | b) }
    return found
  }
}
