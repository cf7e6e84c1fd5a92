import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// The reader takes what it can from a log in any state.
@Suite struct RunHistoryTests {
  private func read(_ text: String) throws -> RunHistory { try read(Array(text.utf8)) }

  private func read(_ bytes: [UInt8]) throws -> RunHistory {
    let folder = try TemporaryFolder()
    return try LogReader.read(URL(filePath: try folder.write("log.jsonl", bytes)), run: "runs/x")
  }

  private static let start =
    #"{"event":"start","step":0,"ranks":2,"changes":[],"version":"9.9","time":"2026-01-01T00:00:00Z"}"#

  private func step(_ number: Int, _ loss: String) -> String {
    #"{"event":"step","step":\#(number),"steps":9,"loss":\#(loss),"terms":{"clip":\#(loss)},"#
      + #""time":"2026-01-01T00:00:\#(10 + number)Z"}"#
  }

  private func losses(_ history: RunHistory) -> [Double] { history.table[.loss]?.finite.map(\.value) ?? [] }

  @Test func theSameFiguresAreKeptEachTime() throws {
    let terms = (0..<300).map { "\"t\($0)\":\($0)" }.joined(separator: ",")
    let line = "{\"event\":\"step\",\"step\":1,\"loss\":1,\"terms\":{\(terms)}}\n"
    let (first, second) = (try read(line).table, try read(line).table)
    #expect(first.isCut && first.figures.count == StepTable.limit && first.figures == second.figures)
    #expect(first.figures.contains(.term("t0")) && !first.figures.contains(.term("t99")))
  }

  @Test func aLogOfARun() throws {
    let anchors =
      #""anchors":{"text":{"divergence_mean":2,"divergence_deviation":0.5,"weight_mean":1,"weight_deviation":0.25,"#
      + #""scale":2.75}}"#
    let history = try read(
      """
      \(Self.start)
      {"event":"header","step":0,"facts":[{"name":"model","text":"4 M"},{"name":"broken"}]}
      {"event":"step","step":5,"steps":10,"epoch":0.5,"loss":3.5,"rate":1e-3,"logit_scale":14,"gradient_norm":2,\
      "samples_per_second":100,"data_wait":0.25,"teacher_share":0.5,"received_bytes":77,"terms":{"clip":3},\
      "term_weights":{"clip":1},\(anchors),"pruning":{"expected":0.1,"target":0.2},"time":"2026-01-01T00:01:00Z"}
      {"event":"evaluation","step":5,"evaluation":"retrieval","figures":{"i2t R@10":0.5,"i2t R@5":0.25}}
      {"event":"checkpoint","step":5,"folder":"runs/x/checkpoints/step-00000005","blocked_seconds":0.5,\
      "written_seconds":2}
      {"event":"note","step":5,"note":"look"}
      {"event":"something of a later release","step":5}
      {"event":"outcome","step":10,"memory_predicted":1e6,"memory_measured":2e6,"step_seconds_predicted":1,\
      "step_seconds_measured":2,"time":"2026-01-01T00:02:00Z"}

      """)
    #expect(history.unreadable == 0 && history.lines == 8 && history.superseded == 0 && !history.isTorn)
    #expect(history.facts == [.init(name: "model", text: "4 M")])
    #expect(history.starts.map(\.ranks) == [2] && history.starts[0].version == "9.9")
    let expected: [(StepTable.Figure, Double)] = [
      (.loss, 3.5), (.rate, 1e-3), (.logitScale, 14), (.gradientNorm, 2), (.samplesPerSecond, 100), (.dataWait, 0.25),
      (.teacherShare, 0.5), (.receivedBytes, 77), (.term("clip"), 3), (.termWeight("clip"), 1),
      (.divergence("text"), 2),
      (.divergenceDeviation("text"), 0.5), (.anchorWeight("text"), 1), (.anchorWeightDeviation("text"), 0.25),
      (.anchorScale("text"), 2.75),
      (.prunedExpected, 0.1), (.prunedTarget, 0.2),
    ]
    for (figure, value) in expected { #expect(history.table[figure]?.values[0] == value, "\(figure)") }
    #expect(Set(history.table.figures) == Set(expected.map(\.0)))
    #expect(history.curves(of: "retrieval").map(\.name) == ["i2t R@5", "i2t R@10"])
    #expect(
      history.checkpoints.map(\.writtenSeconds) == [2] && history.checkpoints[0].folder == "step-00000005"
        && history.notes.map(\.note) == ["look"])
    #expect(history.outcome?.memory.measured == 2e6 && history.plannedSteps == 10 && history.seconds == 120)
  }

  /// A run that was started again does its last steps twice, perhaps with another `log.every`.
  @Test func laterLinesCount() throws {
    let evaluation = { (step: Int, value: Double) in
      #"{"event":"evaluation","step":\#(step),"evaluation":"e","figures":{"top-1":\#(value)}}"#
    }
    let again = #"{"event":"start","step":4,"ranks":3,"changes":["seed: 1, was 0"],"time":"2026-01-02T00:00:00Z"}"#
    let lines = [
      Self.start, step(2, "10"), step(4, "9"), evaluation(4, 0.5), step(6, "8"), evaluation(6, 0.75), step(8, "7"),
      again,
      step(5, "6"), step(7, "5"), evaluation(7, 0.25),
    ]
    let history = try read(lines.joined(separator: "\n") + "\n")
    #expect(history.table.steps == [2, 4, 5, 7] && losses(history) == [10, 9, 6, 5] && history.superseded == 2)
    #expect(history.evaluations[0].rounds.map(\.step) == [4, 7])
    #expect(history.starts.map(\.step) == [0, 4] && history.starts[1].changes == ["seed: 1, was 0"])
    // The same without a start in between, as after a rewind.
    let rewound = try read([Self.start, step(2, "4"), step(4, "3"), step(3, "2")].joined(separator: "\n"))
    #expect(rewound.table.steps == [2, 3] && losses(rewound) == [4, 2] && rewound.superseded == 1)
    #expect(rewound.table[.term("clip")]?.finite.map(\.value) == [4, 2])
  }

  @Test func numbersThatAreNone() throws {
    let history = try read(
      [Self.start, step(1, "1"), step(2, "\"nan\""), step(3, "\"-inf\""), step(4, "\"inf\""), step(5, "5")]
        .joined(separator: "\n") + "\n")
    let loss = try #require(history.table[.loss])
    #expect(loss.notFinite == 3 && loss.finite.map(\.step) == [1, 5] && history.unreadable == 0)
    #expect(loss.values[1]?.isNaN == true && loss.values[2] == -.infinity && loss.values[9] == nil)
    #expect(Curve(steps: [1], values: Column([.nan])).isEmpty == false)
  }

  @Test(
    arguments: [
      "garbage", "{", #"{"event":"step"}"#, #"{"event":"step","step":1}"#, #"{"event":"step","step":-1,"loss":1}"#,
      #"{"event":"step","step":1e300,"loss":1}"#, #"{"event":"step","step":0.5,"loss":1}"#, #"{"event":3,"step":1}"#,
      #"{"event":"step","step":"nan","loss":1}"#, #"{"event":"step","step":1,"loss":{}}"#, "[1]", "null",
      "\u{0}\u{0}\u{0}",
      #"{"event":"evaluation","step":1}"#, #"{"event":"checkpoint","step":1}"#, #"{"event":"note","step":1,"note":[]}"#,
      #"{"event":"outcome","step":1,"memory_predicted":"x"}"#,
      LongText(String(repeating: "[", count: 100_000)),
      LongText(String(repeating: "x", count: LogLines.longest + 1)), LongText(String(repeating: "y", count: 3 << 20)),
    ] as [LongText])
  func aLineThatIsNotUnderstoodIsCounted(line: LongText) throws {
    let history = try read([Self.start, step(1, "2"), line.string, step(2, "1")].joined(separator: "\n") + "\n")
    #expect(history.unreadable == 1 && history.firstUnreadable == 3 && history.lines == 4)
    #expect(losses(history) == [2, 1])
  }

  @Test func whatIsOddInsideALine() throws {
    let history = try read(
      [
        Self.start, #"{"event":"step","step":1,"loss":1,"terms":[1],"anchors":{"image":7},"rate":"fast","time":3}"#,
        #"{"event":"step","step":2,"loss":1,"terms":{"":true,"a":{"b":1},"c":2}}"#,
        #"{"event":"header","step":2,"facts":{"name":"x"}}"#, #"{"event":"start","step":2}"#, "", "  ", "\r",
      ].joined(separator: "\n"))
    #expect(history.unreadable == 0 && history.table.steps == [1, 2] && history.starts.count == 2)
    #expect(history.table[.term("c")]?.values[1] == 2 && history.table[.term("c")]?.values[0] == nil)
    #expect(history.table[.rate] == nil)
  }

  @Test func aLineThatWasNotFinished() throws {
    let torn = try read(Self.start + "\n" + step(1, "2") + "\n" + step(2, "1").dropLast(9))
    #expect(torn.isTorn && torn.unreadable == 1 && torn.table.steps == [1])
    let bytes = Array(Self.start.utf8) + [0x0A, 0xFF, 0xFE, 0x0A]
    #expect(try read(bytes).unreadable == 1)
  }

  /// Two names that become equal when they are shortened give one value per line.
  @Test func namesThatAreCutAreOne() throws {
    let long = String(repeating: "t", count: 1000)
    let line = { (step: Int) in
      #"{"event":"step","step":\#(step),"loss":\#(step),"terms":{"\#(long)a":5,"\#(long)b":5}}"#
    }
    let history = try read([Self.start, line(1), line(2)].joined(separator: "\n"))
    let names = history.table.names { if case .term(let name) = $0 { name } else { nil } }
    #expect(names.count == 1 && names[0].count == 200)
    #expect(history.table[.term(names[0])]?.finite.map(\.step) == [1, 2] && losses(history) == [1, 2])
  }

  @Test func moreFiguresThanAnybodyReads() throws {
    let terms = (0..<1000).map { "\"t\($0)\":1" }.joined(separator: ",")
    let history = try read(
      [Self.start, #"{"event":"step","step":1,"loss":1,"terms":{\#(terms)}}"#].joined(separator: "\n"))
    #expect(history.table.figures.count == StepTable.limit && history.table.isCut)
    let evaluations = (0..<200).map {
      #"{"event":"evaluation","step":\#($0),"evaluation":"e\#($0)","figures":{"a":1}}"#
    }
    #expect(try read(evaluations.joined(separator: "\n")).evaluations.count <= 64)
  }

  @Test func noLog() throws {
    let folder = try TemporaryFolder()
    func failure(_ name: String) throws -> ReportError {
      try #require(throws: ReportError.self) { try LogReader.read(folder.url.appending(path: name), run: "runs/x") }
    }
    try folder.write("empty", [UInt8]())
    #expect(try failure("empty").status == .badData)
    try folder.write("garbage", Data("x\ny\n\n".utf8))
    #expect(try "\(failure("garbage"))".contains("none of 2 lines is one that kinship train writes"))
    #expect(try failure("garbage").status == .badData)
    try #require(mkfifo(folder.path("pipe"), 0o600) == 0)
    for name in ["missing", ".", "pipe"] {
      let error = try failure(name)
      #expect(error.status == .inputOutput && "\(error)".hasPrefix("runs/x has no log that can be read ("), "\(error)")
    }
  }
}
