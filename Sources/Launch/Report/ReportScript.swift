/// What a report's script adds: the values of curves under the pointer, read back from what is drawn. Without it
/// nothing is missing, for every curve has its course in words below it.
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
      const text = (number) => {
        if (svg.dataset.form === "share") return (100 * number).toFixed(1) + " %";
        return String(Number(number.toPrecision(3)));
      };
      let lines = null;
      const read = () => [...svg.querySelectorAll("path[data-name]")].map((path) => ({
        name: path.dataset.name,
        points: [...path.getAttribute("d").matchAll(/[ML](-?[\\d.]+) (-?[\\d.]+)/g)].map((m) => [Number(m[1]), Number(m[2])]),
      }));
      const pointer = document.createElementNS(svg.namespaceURI, "path");
      pointer.setAttribute("class", "pointer");
      const readout = document.createElement("p");
      readout.className = "readout";
      const add = (words) => {
        const span = document.createElement("span");
        span.textContent = words;
        readout.append(span);
      };
      svg.addEventListener("pointermove", (event) => {
        lines = lines || read();
        const box = svg.getBoundingClientRect();
        const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
        let at = null;
        for (const line of lines) {
          for (const [px] of line.points) if (at === null || Math.abs(px - x) < Math.abs(at - x)) at = px;
        }
        if (at === null) return;
        readout.replaceChildren();
        add("step " + Math.round(firstStep + (at - left) / (right - left) * (lastStep - firstStep)).toLocaleString("en"));
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
      svg.addEventListener("pointerleave", () => {
        pointer.remove();
        readout.remove();
      });
    }
    """
}
