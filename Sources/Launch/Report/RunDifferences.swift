/// In which settings runs differ.
struct RunDifferences {
  let runs: [ReportedRun]

  var markup: Markup {
    let paths = Set(runs.flatMap(\.settings.keys)).filter { $0 != "name" && $0 != "output" }.sorted()
    let rows = paths.compactMap { path -> Markup? in
      let values = runs.map { $0.settings[path] ?? "–" }
      guard Set(values).count > 1 else { return nil }
      return "<tr><th scope=\"row\"><code>\(path)</code></th>\(values.map { "<td>\($0)</td>" as Markup })</tr>"
    }
    guard !rows.isEmpty else { return "<p>All values of the run files are equal, but for the names.</p>" }
    let header = runs.map { "<th scope=\"col\">\($0.name)</th>" as Markup }
    return """
      <div class="wide" tabindex="0"><table><thead><tr><th scope="col">setting</th>\(header)</tr></thead>
      <tbody>\(rows)</tbody></table></div>

      """
  }
}
