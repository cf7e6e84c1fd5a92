/// The style sheet of a report, for screens and paper. Curves can be told apart with any colour vision, and each
/// contrasts with its background by at least three to one.
enum ReportStyle {
  /// The colours of curves and points on a light ground.
  static let colors = ["#0072b2", "#c85200", "#00805c", "#a8437f", "#8a6100", "#555555"]
  private static let ownColors = colors.enumerated().map { "--c\($0): \($1);" }.joined(separator: " ")

  static let sheet = """
    :root { color-scheme: light dark; --ground: #ffffff; --raised: #f6f7f9; --ink: #16191d; --quiet: #565d66;
      --rule: #d5dae0; --right: #00734f; --alert: #b3261e; \(ownColors) }
    @media screen and (prefers-color-scheme: dark) {
      :root { --ground: #14171a; --raised: #1d2125; --ink: #e8eaed; --quiet: #a2abb5; --rule: #373d44; --right: #4fd1a1;
        --alert: #ff8a80; --c0: #5db7f0; --c1: #ff9a4d; --c2: #35cfa3; --c3: #ee9ccb; --c4: #e3c04a; --c5: #bdbdbd; }
    }
    * { box-sizing: border-box; }
    html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
    body { margin: 0; background: var(--ground); color: var(--ink);
      font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans",
        sans-serif; }
    main { max-width: 80rem; margin: 0 auto; padding: 2.5rem 1.5rem 3rem; }
    h1 { font-size: 2rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; overflow-wrap: anywhere; }
    h2 { font-size: 1.25rem; margin: 3rem 0 1rem; padding-top: 0.9rem; border-top: 2px solid var(--ink);
      line-height: 1.3; }
    h3 { font-size: 1rem; margin: 1.75rem 0 0.75rem; }
    h4 { font-size: 0.95rem; margin: 0; overflow-wrap: anywhere; }
    p { margin: 0.4rem 0; max-width: 70ch; }
    a { color: var(--c0); }
    code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
      font-size: 0.87em; }
    code, .captions .text, td:not(.figure) { overflow-wrap: anywhere; }
    .quiet, .about, figcaption, .note { color: var(--quiet); }
    .state { margin-top: 0.35rem; font-size: 1.05rem; }
    nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; padding: 0; margin: 1.25rem 0 0; }
    .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 1px; margin: 1.75rem 0 0;
      background: var(--rule); border: 1px solid var(--rule); }
    .tiles div { background: var(--ground); padding: 0.8rem 1rem; }
    .tiles dt { color: var(--quiet); font-size: 0.83rem; }
    .tiles dd { margin: 0; font-size: 1.4rem; line-height: 1.35; font-variant-numeric: tabular-nums;
      overflow-wrap: anywhere; }
    .tiles dd small { display: block; font-size: 0.8rem; color: var(--quiet); }
    .charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22.5rem), 1fr));
      gap: 2rem 2.25rem; }
    .chart { margin: 0; position: relative; min-width: 0; break-inside: avoid; }
    .chart .about { margin: 0 0 0.35rem; font-size: 0.85rem; }
    .chart svg { display: block; width: 100%; height: auto; overflow: visible; touch-action: pan-y; }
    .chart text { font-size: 11.5px; fill: var(--quiet); font-variant-numeric: tabular-nums; }
    .chart figcaption { font-size: 0.83rem; margin-top: 0.3rem; font-variant-numeric: tabular-nums; }
    .key, .readout span { display: block; }
    .key bdi { color: var(--ink); }
    .c0 { --own: var(--c0); } .c1 { --own: var(--c1); } .c2 { --own: var(--c2); }
    .c3 { --own: var(--c3); } .c4 { --own: var(--c4); } .c5 { --own: var(--c5); }
    .swatch { display: inline-block; width: 1.1rem; height: 0; border-top: 3px solid var(--own); margin-right: 0.35rem;
      vertical-align: 0.25em; }
    .swatch.dashed { border-top-style: dashed; }
    .grid, .axis, .tick, .start, .pointer { stroke: var(--quiet); stroke-width: 1; fill: none; pointer-events: none; }
    .grid { stroke: var(--rule); }
    .start { stroke-dasharray: 2 3; }
    .line { fill: none; stroke: var(--own); stroke-width: 1.9; stroke-linejoin: round; stroke-linecap: round; }
    .line.raw { stroke-width: 1; opacity: 0.38; }
    .line.dashed { stroke-dasharray: 6 4; }
    .band { stroke: none; fill: var(--own); opacity: 0.16; }
    .not-finite { fill: var(--alert); }
    .best-step { fill: none; stroke: var(--own); stroke-width: 2; }
    .point { fill: var(--own); stroke: var(--own); stroke-width: 2.5; }
    .point.hollow { fill: none; }
    .readout { position: absolute; right: 0; top: 0; margin: 0; padding: 0.15rem 0.5rem; font-size: 0.8rem;
      background: var(--raised); border: 1px solid var(--rule); font-variant-numeric: tabular-nums;
      pointer-events: none; max-width: 100%; }
    .wide { overflow-x: auto; }
    table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
    th, td { text-align: left; vertical-align: top; padding: 0.32rem 1.25rem 0.32rem 0;
      border-bottom: 1px solid var(--rule); }
    thead th { border-bottom: 1px solid var(--ink); font-weight: 600; }
    tbody th { font-weight: 400; color: var(--quiet); white-space: nowrap; }
    .figure { text-align: right; white-space: nowrap; }
    .runs { margin-top: 1.25rem; }
    .examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 34rem), 1fr));
      gap: 1.5rem 2.25rem; }
    .example { break-inside: avoid; border-top: 1px solid var(--rule); padding-top: 0.8rem; min-width: 0; }
    h4.kind { margin: 1.5rem 0 0.9rem; }
    .query { margin: 0; overflow-wrap: anywhere; }
    .example .verdict { font-size: 0.85rem; margin: 0.1rem 0 0.6rem; }
    .images { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 0.5rem; list-style: none;
      padding: 0; margin: 0; }
    .images li { min-width: 0; font-size: 0.78rem; font-variant-numeric: tabular-nums; }
    .frame { border: 1px solid var(--rule); background: #ffffff; padding: 3px; aspect-ratio: 1; display: flex; }
    .frame img { width: 100%; height: 100%; object-fit: contain; display: block; }
    .is-right .frame { outline: 3px solid var(--right); outline-offset: -1px; }
    .mark { color: var(--right); font-weight: 700; }
    .asked { display: grid; grid-template-columns: 7.5rem minmax(0, 1fr); gap: 1rem; }
    .captions { list-style: none; margin: 0; padding: 0; font-size: 0.9rem; }
    .captions li { display: grid; grid-template-columns: 1.2rem minmax(0, 1fr) auto; gap: 0.4rem; padding: 0.16rem 0;
      border-bottom: 1px solid var(--rule); }
    .captions .is-right .text, td.best { font-weight: 700; }
    .score { color: var(--quiet); font-variant-numeric: tabular-nums; }
    pre.file { background: var(--raised); border: 1px solid var(--rule); padding: 1rem; max-height: 28rem;
      overflow: auto; margin: 0.5rem 0; line-height: 1.4; tab-size: 2; }
    .alert { border-left: 4px solid var(--alert); padding: 0.1rem 0 0.1rem 0.9rem; margin: 1rem 0; }
    footer { margin-top: 3rem; padding-top: 0.9rem; border-top: 1px solid var(--rule); font-size: 0.85rem;
      color: var(--quiet); }
    @media (max-width: 40rem) {
      main { padding: 1.5rem 1rem 2rem; }
      h1 { font-size: 1.6rem; }
      .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
      .asked { grid-template-columns: 5rem minmax(0, 1fr); gap: 0.75rem; }
      .images { grid-template-columns: repeat(3, minmax(0, 1fr)); }
      th, td { padding-right: 0.8rem; }
    }
    @media print {
      :root { color-scheme: light; --raised: #ffffff; --ink: #000000; --quiet: #444444; --rule: #bbbbbb; }
      body { font-size: 10pt; }
      main { max-width: none; padding: 0; }
      nav { display: none; }
      .charts { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.25rem 1.5rem; }
      pre.file { max-height: none; overflow: visible; white-space: pre-wrap; columns: 2; font-size: 7.5pt; }
      h2, h3 { break-after: avoid; }
      tr { break-inside: avoid; }
      .wide { overflow: visible; }
      table { font-size: 8.5pt; }
      th, td { padding-right: 0.6rem; }
      .examples { grid-template-columns: repeat(2, minmax(0, 1fr)); }
    }
    """
}

/// The script of a report, which shows the values under the pointer. The captions of the charts do without it.
enum ReportScript {
  static let source = """
    "use strict";
    for (const svg of document.querySelectorAll("svg[data-steps]")) {
      const [left, top, right, bottom] = svg.dataset.area.split(" ").map(Number);
      const [firstStep, lastStep] = svg.dataset.steps.split(" ").map(Number);
      const [low, high] = svg.dataset.values.split(" ").map(Number);
      const value = (y) => {
        const place = (bottom - y) / (bottom - top);
        return svg.dataset.log === "1" ? low * Math.pow(high / low, place) : low + (high - low) * place;
      };
      const text = (number) => svg.dataset.form === "share"
        ? (100 * number).toFixed(1) + " %" : String(Number(number.toPrecision(3)));
      let lines = null;
      const read = () => [...svg.querySelectorAll("path[data-name]")].map((path) => ({
        name: path.dataset.name,
        points: [...path.getAttribute("d").matchAll(/[ML](-?[\\d.]+) (-?[\\d.]+)/g)]
          .map((m) => [Number(m[1]), Number(m[2])]),
      }));
      const pointer = document.createElementNS(svg.namespaceURI, "path");
      pointer.setAttribute("class", "pointer");
      const readout = Object.assign(document.createElement("p"), { className: "readout" });
      const add = (textContent) => readout.append(Object.assign(document.createElement("span"), { textContent }));
      svg.addEventListener("pointermove", (event) => {
        lines = lines || read();
        const box = svg.getBoundingClientRect();
        const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
        let at = null;
        for (const [px] of lines.flatMap((line) => line.points)) {
          if (at === null || Math.abs(px - x) < Math.abs(at - x)) at = px;
        }
        if (at === null) return;
        readout.replaceChildren();
        const step = Math.round(firstStep + (at - left) / (right - left) * (lastStep - firstStep));
        add("step " + step.toLocaleString("en"));
        for (const line of lines) {
          const near = line.points.filter(([px]) => Math.abs(px - at) < 0.6).map(([, py]) => py);
          if (near.length === 0) continue;
          const [least, most] = [text(value(Math.max(...near))), text(value(Math.min(...near)))];
          add((lines.length > 1 ? line.name + " " : "") + (least === most ? least : least + " to " + most));
        }
        pointer.setAttribute("d", "M" + at + " " + top + "V" + bottom);
        svg.append(pointer);
        svg.parentElement.append(readout);
      });
      svg.addEventListener("pointerleave", () => [pointer, readout].forEach((item) => item.remove()));
    }
    """
}
