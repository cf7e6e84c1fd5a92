import Foundation
import Testing

@testable import Launch

/// Curves become drawings.
@Suite struct ChartTests {
  private func curve(_ values: [Double?]) -> Curve { Curve(steps: Array(1...values.count), values: Column(values)) }

  private func thinned(_ curve: Curve, columns: Int) -> Thinning {
    let last = Double(curve.steps.last ?? 1)
    return Thinning(curve, columns: columns, x: { Double($0) / last }, y: { $0 })
  }

  /// Among a hundred thousand lines, single outliers and a single NaN remain visible.
  @Test func noSpikeIsLost() {
    var values: [Double?] = (0..<100_000).map { Double($0 % 7) / 10 }
    values[31_234] = 1000
    values[77_777] = -5
    values[50_000] = .nan
    let thinned = thinned(curve(values), columns: 300)
    let points = thinned.pieces.flatMap { $0 }
    #expect(points.count <= 4 * 301)
    #expect(points.contains { $0.y == 1000 && abs($0.x - 0.31235) < 1e-9 } && points.contains { $0.y == -5 })
    #expect(thinned.notFinite.count == 1 && abs(thinned.notFinite[0] - 0.50001) < 1e-9 && thinned.pieces.count == 2)
    for piece in thinned.pieces { #expect(zip(piece, piece.dropFirst()).allSatisfy { $0.x <= $1.x }) }
  }

  @Test func aShortCurveIsDrawnAsItIs() {
    let thinned = thinned(curve([1, 3, nil, 2, .infinity, 4]), columns: 300)
    #expect(thinned.pieces.map { $0.map(\.y) } == [[1, 3], [2], [4]] && thinned.notFinite == [5 / 6.0])
    #expect(self.thinned(curve([nil, .nan]), columns: 10).pieces.isEmpty)
  }

  @Test func manyThatAreNotFiniteAreAsManyMarksAsColumns() {
    let thinned = thinned(curve((0..<10_000).map { $0 % 2 == 0 ? .nan : 1 }), columns: 100)
    #expect(thinned.notFinite.count <= 101 && thinned.pieces.count <= 101)
  }

  @Test func theTrend() throws {
    #expect(curve([1, 2, 3]).smoothed == nil)
    var values: [Double?] = (0..<333).map { Double($0 * $0 % 101) }
    values[50] = .nan
    values[51] = nil
    values[200] = 1e30
    let smoothed = try #require(curve(values).smoothed)
    // As many neighbours on either side as there are, finite ones only; what a spike does ends with its window.
    let reach = values.count / 50
    for line in values.indices {
      let window = values[max(0, line - reach)...min(values.count - 1, line + reach)].compactMap { $0 }.filter(
        \.isFinite)
      let mean = window.reduce(0) { $0 + $1 / Double(window.count) }
      guard values[line]?.isFinite == true else {
        #expect(smoothed.values[line] == nil)
        continue
      }
      let found = try #require(smoothed.values[line])
      #expect(abs(found - mean) <= 1e-12 * max(1, abs(mean)), "\(line)")
    }
    let large = curve([Double?](repeating: .greatestFiniteMagnitude / 2, count: 60)).smoothed
    #expect(large?.values[30]?.isFinite == true)
  }

  private func labels(_ values: [Double], fromZero: Bool = false, log: Bool = false, form: Chart.Form = .number)
    -> [String]
  {
    ChartAxis(over: values, fromZero: fromZero, mayBeLogarithmic: log, form: form).ticks.map(\.label)
  }

  @Test func labelsOfAxes() {
    #expect(labels([0.1, 0.9]) == ["0", "0.2", "0.4", "0.6", "0.8", "1.0"])
    #expect(labels([13.7, 17.3]) == ["13", "14", "15", "16", "17", "18"])
    #expect(labels([900, 4100], fromZero: true) == ["0", "1000", "2000", "3000", "4000", "5000"])
    #expect(labels([0, 25_000]) == ["0", "5k", "10k", "15k", "20k", "25k"])
    #expect(labels([0, 1e-3 / 2]) == ["0", "0.0001", "0.0002", "0.0003", "0.0004", "0.0005"])
    #expect(labels([0.02, 0.36], fromZero: true, form: .share) == ["0 %", "10 %", "20 %", "30 %", "40 %"])
    #expect(labels([0.5, 80], log: true) == ["0.5", "1", "2", "5", "10", "20", "50"])
    #expect(labels([1e-9, 1e3], log: true).count <= 7)
    #expect(labels([3, 3]).count >= 2 && labels([]).count >= 2 && labels([0, 0]).count >= 2)
    #expect(ChartAxis(steps: 0...1000).ticks.map(\.label) == ["0", "200", "400", "600", "800", "1000"])
    #expect(ChartAxis(steps: 0...1).ticks.map(\.label) == ["0", "1"])
    #expect(Chart.step(1_234_567) == "1,234,567" && Chart.step(999) == "999" && Chart.step(0) == "0")
  }

  /// All finite numbers have a place on their axis, and an axis has few labels.
  @Test func extremes() {
    let tiny = Double.leastNonzeroMagnitude
    let ranges: [[Double]] = [
      [-.greatestFiniteMagnitude, .greatestFiniteMagnitude], [0, .greatestFiniteMagnitude], [0, tiny], [tiny, 1],
      [1, 1 + .ulpOfOne], [1e15, 1e15 + 1], [-1e-300, 1e-300], [tiny, .greatestFiniteMagnitude], [1e306, 1e306],
      [tiny, tiny], [-tiny, -tiny], [.greatestFiniteMagnitude, .greatestFiniteMagnitude],
      [-.greatestFiniteMagnitude, -.greatestFiniteMagnitude],
    ]
    for range in ranges {
      for (fromZero, log) in [(false, false), (true, false), (false, true)] {
        let axis = ChartAxis(over: range, fromZero: fromZero, mayBeLogarithmic: log, form: .number)
        #expect((1...12).contains(axis.ticks.count), "\(range) \(axis.ticks)")
        for value in range { #expect((0...1).contains(axis.place(value)), "\(range): \(value)") }
      }
      let line = Chart.Line(name: "x", color: 7, curve: curve(range), deviation: curve([1, .greatestFiniteMagnitude]))
      let chart = Chart("x", "", [line])
      #expect(chart.map { ChartDrawing($0, steps: 0...2, starts: [], number: 1).markup.text.contains("NaN") } == false)
    }
  }

  @Test func coursesInWords() {
    let curve = curve([4, 1, .nan, 2.5])
    #expect(curve.summary(.number, isShort: false) == "last 2.5, lowest 1 at step 2, highest 4 at step 1, 1 not finite")
    #expect(curve.summary(.share, isShort: true) == "last 250.0 %, lowest 100.0 %, highest 400.0 %, 1 not finite")
    #expect(self.curve([3, 2, 1]).summary(.number, isShort: false) == "last and lowest 1, highest 3 at step 1")
    #expect(self.curve([2, 2]).summary(.number, isShort: false) == "2")
    #expect(self.curve([.nan]).summary(.number, isShort: false) == "never a finite number")
    #expect(Chart.Form.number.text(1574.2) == "1,574" && Chart.Form.number.text(-2.5e7) == "-25 M")
  }

  @Test func nothingIsLeftUnescaped() {
    let hostile = "<script>alert('\"&')</script>\u{0}\u{1B}\u{85}\t\n"
    let markup: Markup = "<p title=\"\(hostile)\">\(hostile)\(3)\(["<b>x</b>" as Markup])</p>"
    let text = "&lt;script&gt;alert(&#39;&quot;&amp;&#39;)&lt;/script&gt;\u{FFFD}\u{FFFD}\u{FFFD}\t\n"
    #expect(markup.text == "<p title=\"\(text)\">\(text)3<b>x</b></p>")
  }
}
