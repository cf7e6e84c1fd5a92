import Foundation
import Settings
import TestSupport
import Testing

@testable import Launch

/// `scripts/study` without training; a small study is run by `scripts/test`.
@Suite struct StudyTests {
  private static let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()
  private static let plans = package.appending(path: "scripts/recipes/studies", directoryHint: .isDirectory)

  /// The plans of `scripts/recipes/studies`.
  static let shipped = ["smoke", "intra", "intra-emoji", "search", "patch-dropout"]

  /// A plan without its arms; its arms; their settings; and the digest of its recipe.
  private static let keys = """
    recipe: RECIPE
    steps: 4
    seeds: 1-3
    baseline: base
    development: {emoji: {dataset: data/none}}

    """
  private static let arms = """
    arms:
      base: [objective.preset=clip, teacher=none]
      a: [objective.fd=0.30]   # three
      b: ["objective.fd=[{step: 0, value: 1}]"]
      c:
        - objective.crd=1

    """
  private static let settings = [
    "base": ["objective.preset=clip", "teacher=none"], "a": ["objective.fd=0.30"],
    "b": ["objective.fd=[{step: 0, value: 1}]"], "c": ["objective.crd=1"],
  ]
  private static let digest = "11b012574c4d116d"

  /// Mean reciprocal ranks: the differences to base are 1, 2, 3 points for a, -3.0, -3.1, -2.9 for b, 0.1, -0.1, 0.3
  /// for c.
  private static let measured = [
    "base": [0.10, 0.11, 0.12], "a": [0.11, 0.13, 0.15], "b": [0.07, 0.079, 0.091], "c": [0.101, 0.109, 0.123],
  ]

  /// Writes the plan and returns its path.
  private static func plan(_ folder: TemporaryFolder, _ text: String = keys + arms) throws -> String {
    let recipe = try folder.write("recipe.yaml", "name: mine  # only\n".utf8)
    return try folder.write("plan.yaml", text.replacing("RECIPE", with: recipe).utf8)
  }

  private static func line(
    _ arm: String, _ seed: Int, _ value: Double, steps: Int = 4, commit: String = "c0ffee", settings: [String]? = nil
  ) throws -> String {
    let settings: [String] = settings ?? Self.settings[arm] ?? []
    let line: [String: Any] = [
      "arm": arm, "seed": seed, "steps": steps, "settings": settings, "recipe": digest, "commit": commit,
      "teacher": "5eed", "processor": "2 cores", "seconds": 3600,
      "figures": ["emoji": ["MRR": value, "i2t R@1": value]],
    ]
    return String(decoding: try JSONSerialization.data(withJSONObject: line), as: UTF8.self) + "\n"
  }

  private static func allLines() throws -> String {
    var lines = ""
    for (arm, values) in measured.sorted(by: { $0.key < $1.key }) {
      for (index, value) in values.enumerated() { lines += try line(arm, index + 1, value) }
    }
    return lines
  }

  private static func study(_ arguments: [String]) async throws -> MPIRun {
    try await MPIRun.execute(["env", package.appending(path: "scripts/study").path] + arguments)
  }

  // MARK: The table

  /// By hand: t of 95 % with 2 degrees of freedom is 4.3027 and p = 1 - t/√(2 + t²), so that the p are 0.0742, 0.00037
  /// and 0.478, and Holm's factors 2, 3 and 1. With five seeds p of a is 0.011 (with four 0.028, times 2 too much); c
  /// needs t = √n/2 above 2.110, which is so from 18.
  @Test func theTableHasIntervalsHolmsPAndTheSeedsThatWouldDecide() async throws {
    let folder = try TemporaryFolder()
    let plan = try Self.plan(folder)
    try folder.write("plan.results.jsonl", Self.allLines().utf8)
    let run = try await Self.study([plan, "--table"])
    #expect(run.status == 0, "\(run)")
    #expect(run.output == (try String(contentsOfFile: folder.path("plan.results.md"), encoding: .utf8)))
    for line in [
      "12 runs of 4 steps, 12.0 hours", "## emoji (development)", "| `base` | 3 | 11.00 ± 1.00 | – |",
      "| `a` | 3 | 13.00 ± 2.00 | +2.00 | -0.48 to +4.48 | 0.148 | open | 2 |",
      "| `b` | 3 | 8.00 ± 1.05 | -3.00 | -3.25 to -2.75 | 0.001 | below | 0 |",
      "| `c` | 3 | 11.10 ± 1.11 | +0.10 | -0.40 to +0.60 | 0.478 | open | 15 |",
      "| `a` | 13.00 ± 2.00 (-0.48 to +4.48) |", "| 1, 2, 3 | c0ffee | 5eed | 2 cores |",
    ] {
      #expect(run.output.contains(line), "\(line) in \(run)")
    }
    let data = try Data(contentsOf: URL(filePath: folder.path("plan.results.json")))
    let document = try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
    var found: Any? = document["sets"]
    for key in ["emoji", "arms", "a", "MRR", "difference"] { found = (found as? [String: Any])?[key] }
    let difference = try #require(found as? [String: Any])
    let expected = ["mean": 2.0, "sd": 1.0, "low": -0.484138, "high": 4.484138, "p": 0.0741799]
    for (key, value) in expected {
      #expect(abs((difference[key] as? Double ?? .nan) - value) < 1e-6, "\(key) in \(difference)")
    }
    let figure = try String(contentsOfFile: folder.path("plan.results.svg"), encoding: .utf8)
    #expect(figure.components(separatedBy: "<circle").count == 4)
    #expect(figure.hasPrefix("<svg ") && figure.hasSuffix("</svg>\n"))
  }

  @Test func aSeedThatOneArmLacksIsNotCompared() async throws {
    let folder = try TemporaryFolder()
    let plan = try Self.plan(folder)
    let lines = [try Self.line("base", 1, 0.1), try Self.line("a", 1, 0.2), try Self.line("a", 2, 0.9)]
    try folder.write("plan.results.jsonl", lines.joined().utf8)
    let run = try await Self.study([plan, "--table", "--only", "a"])
    #expect(run.status == 0, "\(run)")
    #expect(run.output.contains("| `a` | 2 | 55.00 ± 49.50 | +10.00 | – | – | – | – |"), "\(run)")
    #expect(!run.output.contains("`b`"), "\(run)")
  }

  // MARK: Going on

  /// The runs of an array leave a file each, which is taken into the results once. One that does not fit stays.
  @Test func figuresOfTasksAreCollected() async throws {
    let folder = try TemporaryFolder()
    let plan = try Self.plan(folder)
    try folder.write("plan.results.jsonl", Self.line("base", 1, 0.1).utf8)
    let file = try folder.write("runs/a-seed-1.figures.json", Self.line("a", 1, 0.2).utf8)
    let collect = [plan, "--runs", folder.path("runs"), "--collect"]
    func results() throws -> Int {
      try String(contentsOfFile: folder.path("plan.results.jsonl"), encoding: .utf8).split(separator: "\n").count
    }
    for _ in 0..<2 {
      let run = try await Self.study(collect)
      #expect(run.status == 0 && run.output.contains("| `a` | 1 | 20.00 | +10.00 | – |"), "\(run)")
      #expect(try results() == 2 && !FileManager.default.fileExists(atPath: file), "\(run)")
    }
    for (arm, line, words) in [
      ("b", try Self.line("b", 1, 0.2, settings: ["objective.fd=9"]), "expected the figures of b with seed 1"),
      ("c", try Self.line("c", 1, 0.2, commit: "other"), "seed 1 was begun with commit"),
      ("c", "{", "expected the figures of c with seed 1"),
    ] {
      let file = try folder.write("runs/\(arm)-seed-1.figures.json", line.utf8)
      let run = try await Self.study(collect)
      #expect(run.status == 65 && run.errors.contains(words), "\(run)")
      #expect(try results() == 2 && FileManager.default.fileExists(atPath: file), "\(run)")
      try FileManager.default.removeItem(atPath: file)
    }
    for (arguments, words) in [
      (["--task", "13"], "expected a number from 1 to 12, found 13"), (["--task", "0"], "'0'"),
      (["--task", "1", "--prepare"], "give one of them"),
    ] {
      let run = try await Self.study([plan] + arguments)
      #expect(run.status == 64 && run.errors.contains(words), "\(arguments): \(run)")
    }
  }

  @Test func whatIsInTheResultsIsNotDoneAgain() async throws {
    let folder = try TemporaryFolder()
    let plan = try Self.plan(folder)
    let lines = [try Self.line("base", 1, 0.1), try Self.line("a", 1, 0.1), try Self.line("a", 2, 0.1)]
    try folder.write("plan.results.jsonl", lines.joined().utf8)
    try folder.write("runs/base-seed-2.json", "{}".utf8)
    let run = try await Self.study(
      [plan, "--only", "base,a", "--seeds", "1-2,7", "--runs", folder.path("runs"), "--dry-run"])
    #expect(run.status == 0, "\(run)")
    let states = run.output.split(separator: "\n").map { $0.split(separator: " ", maxSplits: 1) }
      .map { "\($0[0]): \($0[1].trimmingCharacters(in: .whitespaces))" }
    #expect(
      states == [
        "base-seed-1: finished", "a-seed-1: finished", "base-seed-2: begun", "a-seed-2: finished", "base-seed-7: to do",
        "a-seed-7: to do", "3: runs to do, about 3.0 h left",
      ])
    // Figures of another number of steps are not the plan's.
    let longer = try await Self.study([plan, "--steps", "5", "--dry-run"])
    #expect(longer.status == 0 && !longer.output.contains("finished"), "\(longer)")
  }

  @Test func resultsThatDoNotFitTogetherAreRefused() async throws {
    let folder = try TemporaryFolder()
    let plan = try Self.plan(folder)
    let base = try Self.line("base", 1, 0.1)
    let later = try Self.line("a", 1, 0.1, commit: "bad")
    let other = try Self.line("base", 1, 0.1, settings: ["objective.fd=3"])
    let cases = [
      (base + later, "commit of seed 1 is “c0ffee” for base"),
      (other, "was measured with settings ['objective.fd=3']"),
      (base + base, "lines 1 and 2 are both base with seed 1"),
      (base + "{\"arm\": \"a\"", "line 2: expected an arm's figures"),
      (base.replacing("3600", with: "1e999"), "line 1: expected an arm's figures"),
      (base + String(repeating: "[", count: 100_000), "line 2: expected an arm's figures"),
    ].map { (Array($0.utf8), $1) }
    for (lines, words) in cases + [(Array(base.utf8) + [0xFF], "line 2: expected an arm's figures")] {
      try folder.write("plan.results.jsonl", lines)
      let run = try await Self.study([plan, "--table"])
      #expect(run.status == 65 && run.errors.contains(words), "\(run)")
    }
  }

  // MARK: Plans and arguments

  @Test func aSearchTriesEachArmEquallyOften() async throws {
    let folder = try TemporaryFolder()
    let search = """
      trials: 4
      arms:
        base: [objective.preset=standard]
        a: {settings: [], search: {objective.fd: {from: 0.01, to: 10}}}
        b:
          settings: [objective.preset=intra]
          search:
            objective.intra: {from: 0.03, to: 10}
            diagonal: [[objective.intra_options.diagonal=keep, objective.icl=1], [objective.icl=2]]

      """
    let plan = try Self.plan(folder, Self.keys + search)
    let run = try await Self.study([plan, "--seeds", "1", "--dry-run"])
    #expect(run.status == 0 && run.output.contains("9 runs to do"), "\(run)")
    let lines = [
      try Self.line("base", 1, 0.1, settings: ["objective.preset=standard"]),
      try Self.line("a-01", 1, 0.2, settings: ["objective.fd=0.01"]),
      try Self.line("a-02", 1, 0.3, settings: ["objective.fd=0.1"]),
      try Self.line("a-04", 1, 0.1, settings: ["objective.fd=10"]),
    ]
    try folder.write("plan.results.jsonl", lines.joined().utf8)
    let table = try await Self.study([plan, "--table"])
    #expect(table.output.contains("| `a` | `a-02` | 1 | 30.00 | `objective.fd=0.1` |"), "\(table)")
    let fewer = try await Self.study(
      [try Self.plan(folder, Self.keys + search.replacing("{from: 0.01, to: 10}", with: "[1, 2]")), "--dry-run"])
    #expect(fewer.status == 64 && fewer.errors.contains("do not give 4 different trials"), "\(fewer)")
  }

  /// An arm with more steps is compared with the others; its figures after the plan's own number of steps are not its.
  @Test func anArmWithAFactorHasItsOwnNumberOfSteps() async throws {
    let folder = try TemporaryFolder()
    let arms = """
      arms:
        base: [objective.preset=clip, teacher=none]
        a: {settings: [objective.fd=0.30], steps_factor: 1.6}
      """
    let plan = try Self.plan(folder, Self.keys + arms)
    let lines = [
      try Self.line("base", 1, 0.1), try Self.line("base", 2, 0.1), try Self.line("a", 1, 0.5),
      try Self.line("a", 1, 0.2, steps: 6), try Self.line("a", 2, 0.21, steps: 6),
    ]
    try folder.write("plan.results.jsonl", lines.joined().utf8)
    let table = try await Self.study([plan, "--table"])
    #expect(table.status == 0 && table.output.contains("4 runs of 4 steps (`a`: 6)"), "\(table)")
    #expect(table.output.contains("| `a` | 2 | 20.50 "), "\(table)")
  }

  @Test(arguments: [
    ("arms: {base: [fd]}", "arms.base: expected key=value, such as objective.preset=standard, found fd"),
    ("arms: {base: [seed=3]}", "seed is the study's to set"), ("arms: {a: [fd=1]}", "found base"),
    ("colour: red", "there is no key colour"), ("arms: {base: [fd=1}", "line 6: cannot read"),
    ("steps: 5", "line 6: steps is given twice"), ("  arms: x", "line 6: is indented unlike"),
    ("cache: yes", "cache: yes stores a teacher's embeddings, and there is none"),
    ("base: plan.yaml", "is based on itself"), ("arms: none", "arms: expected names with their values, found none"),
    ("arms: {base: []}\nconfirmation: {../x: {dataset: data/none}}", "../x cannot be a set's name"),
    ("arms: {base: []}\nconfirmation: {x: {dataset: [data]}}", "confirmation.x.dataset: expected a text"),
    ("trials: 2\narms: {b-01: [fd=1], b: {search: {fd: [1, 2]}}}", "b-01 names an arm and a trial of another"),
    ("trials: 9999\narms: {b: {search: {fd: [1, 2]}}}", "trials: expected at most 1000, found 9999"),
    ("arms: {embeddings: [fd=1]}", "embeddings cannot be an arm's name"),
    ("runs: 'abc", "line 6: cannot read 'abc: its quotes do not close"),
    ("runs: a\u{0}", "line 6: a control character"), ("runs: \"a\\u0000\"", "line 6: cannot read"),
    ("\"a\\\": b", "line 6: cannot read the key"), ("arms:\n\tbase: []", "line 7: is indented by a tab"),
    ("prepare:\n  - |\n    true", "line 7: “|” is YAML that plans do not have"),
    ("teacher: {recipe: [a]}", "teacher.recipe: expected a text"),
    ("arms: {a: {steps_factor: twice}}", "arms.a.steps_factor: expected a number from 0.01 to 100"),
    ("arms: {a: {steps_factor: 0}}", "arms.a.steps_factor: expected a number from 0.01 to 100"),
  ])
  func mistakesInAPlanAreNamed(_ line: String, _ words: String) async throws {
    let folder = try TemporaryFolder()
    let run = try await Self.study([try Self.plan(folder, Self.keys + line + "\n"), "--dry-run"])
    #expect(run.status == 64 && run.errors.contains(words), "\(run)")
  }

  @Test func plansThatNestTooDeepAreRefused() async throws {
    let folder = try TemporaryFolder()
    let sections = (1..<1000).map { String(repeating: " ", count: $0) + "a:\n" }.joined()
    for (value, words) in [
      (String(repeating: "[", count: 5000), "line 6: cannot read “[[["), ("\n\(sections)", "too deep in one another"),
      // Each line must be looked at once: with their square this would take hours.
      (String(repeating: "[\n", count: 400_000), "line 6: cannot read “[ [ ["),
    ] {
      let run = try await Self.study([try Self.plan(folder, "\(Self.keys)arms: \(value)\n"), "--dry-run"])
      #expect(run.status == 64 && run.errors.contains(words), "\(run)")
    }
  }

  /// It is found before the data is made and anything is trained.
  @Test func aMissingRecipeOfTheTeacherIsFoundAtTheStart() async throws {
    let folder = try TemporaryFolder()
    let plan = try Self.plan(folder, Self.keys + Self.arms + "teacher: {recipe: nowhere.yaml}\n")
    let run = try await Self.study([plan, "--dry-run"])
    #expect(run.status == 74 && run.errors.contains("cannot read nowhere.yaml"), "\(run)")
  }

  @Test(arguments: [
    (["--only", "a,none"], "no arm none"), (["--seeds", "1,x"], "found 1,x"), (["--steps", "0"], "'0'"),
    (["--seeds", "1-99999999999"], "at most 1000 seeds"), (["--steps", "99999999999999999999"], "'9999"),
    (["--ranks"], "--ranks"), (["--fast"], "--fast"),
  ])
  func wrongArgumentsAreRefused(_ arguments: [String], _ words: String) async throws {
    let folder = try TemporaryFolder()
    let run = try await Self.study([try Self.plan(folder)] + arguments)
    #expect(run.status == 64 && run.errors.contains(words), "\(run)")
  }

  /// Each arm must be a valid run, so that every key and word of its settings exists. Each value of a search is tried
  /// by itself.
  @Test(arguments: shipped)
  func theArmsOfAShippedPlanAreRuns(_ name: String) async throws {
    var keys: [String: RunTree] = [:]
    var file: String? = "\(name).yaml"
    while let plan = file {
      let text = try String(contentsOf: Self.plans.appending(path: plan), encoding: .utf8)
      let found = Self.entries(try RunNode.parse(text) { .file(plan, line: $0, column: $1) }.tree)
      file = found["base"].flatMap { Self.texts($0).first }
      keys.merge(found) { own, _ in own }
    }
    let recipe = Self.package.appending(path: try #require(keys["recipe"].flatMap { Self.texts($0).first })).path
    let common = Self.texts(try #require(keys["settings"])) + ["teacher.model=runs/teacher"]
    let arms = Self.entries(try #require(keys["arms"]))
    #expect(arms.count >= 2)
    for (arm, value) in arms {
      let parts = Self.entries(value)
      let settings = common + Self.texts(parts["settings"] ?? value)
      #expect(throws: Never.self, "\(arm)") { _ = try RunConfig.load(recipe, overrides: settings) }
      let isCommon = parts["search"].map(Self.texts) == ["common"]
      let search = isCommon ? keys["search"] : parts["search"]
      let options: [String: RunTree] = search.map(Self.entries) ?? [:]
      for (key, tried) in options {
        for setting in Self.choices(tried).map({ $0.count == 1 && !$0[0].contains("=") ? ["\(key)=\($0[0])"] : $0 }) {
          #expect(throws: Never.self, "\(arm): \(setting)") {
            _ = try RunConfig.load(recipe, overrides: settings + setting)
          }
        }
      }
    }
    let run = try await Self.study([Self.plans.appending(path: "\(name).yaml").path, "--dry-run"])
    #expect(run.status == 0, "\(run)")
  }

  private static func entries(_ tree: RunTree) -> [String: RunTree] {
    guard case .section(let entries) = tree else { return [:] }
    return Dictionary(uniqueKeysWithValues: entries.map { ($0.key, $0.value) })
  }

  /// The texts of a list, or the one of a scalar.
  private static func texts(_ tree: RunTree) -> [String] {
    switch tree {
    case .scalar(let text, _): [text]
    case .list(let values): values.flatMap(texts)
    case .section: []
    }
  }

  /// The values among which a search chooses, each as a list of texts; both ends of a range.
  private static func choices(_ tree: RunTree) -> [[String]] {
    if case .list(let values) = tree { return values.map(texts) }
    return entries(tree).values.map(texts)
  }
}
