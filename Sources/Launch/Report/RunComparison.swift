/// Runs side by side in a few numbers: a column a run.
struct RunComparison {
  let runs: [ReportedRun]

  var markup: Markup {
    let lists = runs.map { RunFigures($0).list }
    var figures: [RunFigures.Figure] = []
    for figure in lists.joined() where !figures.contains(where: figure.isSame) { figures.append(figure) }
    let header = runs.enumerated().map { index, run in
      let dashed: Markup? = index >= ChartDrawing.colors ? " dashed" : nil
      return """
        <th scope="col" class="figure"><i class="swatch c\(index % ChartDrawing.colors)\(dashed)"></i>\
        <bdi>\(run.name)</bdi></th>
        """ as Markup
    }
    let rows = figures.map { figure in
      let of: Markup? = figure.of.map { " <small>\($0)</small>" }
      let cells = lists.map { list in
        "<td class=\"figure\">\(list.first(where: figure.isSame)?.text ?? "–")</td>" as Markup
      }
      return "<tr><th scope=\"row\">\(figure.name)\(of)</th>\(cells)</tr>" as Markup
    }
    let states = runs.map { "<td class=\"figure\">\($0.state)</td>" as Markup }
    return """
      <div class="wide runs" tabindex="0"><table><thead><tr><th scope="col">run</th>\(header)</tr></thead>
      <tbody><tr><th scope="row">state</th>\(states)</tr>\(rows)</tbody></table></div>
      """
  }
}
