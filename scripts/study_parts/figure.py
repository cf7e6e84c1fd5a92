"""The figure of a study as SVG: for each set, every arm's difference to the baseline with its 95 % interval."""
import math
from html import escape

WIDTH, LEFT, RIGHT, ROW = 760, 210, 30, 22
COLOURS = {"above": "#1a7f37", "below": "#b3261e", "open": "#57606a"}


def drawing(document) -> str:
    parts, top = [], 0
    for name, found in document["sets"].items():
        rows = [
            (arm, difference) for arm, figures in found["arms"].items()
            if (difference := figures.get(document["figure"], {}).get("difference"))]
        title = (f"{name} ({found['purpose']}): {document['figure']}, difference to {document['baseline']} in points,"
                 " 95 % interval")
        parts += panel(title, rows, top)
        top += (len(rows) + 3) * ROW
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}"'
        ' font-family="sans-serif" font-size="12" fill="#1f2328">',
        f'<rect width="{WIDTH}" height="{top}" fill="white"/>', *parts, "</svg>", ""])


def panel(title: str, rows, top: int):
    """The lines of one set's panel, whose upper edge is at `top`."""
    ends = [0.0] + [found[key] for _, found in rows for key in ("mean", "low", "high") if found[key] is not None]
    step = tick_step(max(ends) - min(ends))
    low, high = step * math.floor(min(ends) / step), step * math.ceil(max(ends) / step)
    high = high if high > low else low + step

    def x(value: float) -> str:
        return f"{LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT):.1f}"

    bottom = top + (len(rows) + 1) * ROW + 6
    yield f'<text x="8" y="{top + 16}" font-weight="bold">{escape(title)}</text>'
    for index in range(round((high - low) / step) + 1):
        value = low + index * step
        is_zero = abs(value) < step / 2
        colour = "#1f2328" if is_zero else "#d8dee4"
        yield f'<line x1="{x(value)}" x2="{x(value)}" y1="{top + ROW + 4}" y2="{bottom}" stroke="{colour}"/>'
        label = "0" if is_zero else f"{value:+.6g}"
        yield f'<text x="{x(value)}" y="{bottom + 15}" text-anchor="middle">{label}</text>'
    for row, (arm, found) in enumerate(rows):
        y = top + (row + 1.5) * ROW + 4
        colour = COLOURS[found.get("verdict", "open")]
        yield f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(arm)}</text>'
        if found["low"] is not None:
            yield (f'<line x1="{x(found["low"])}" x2="{x(found["high"])}" y1="{y}" y2="{y}" stroke="{colour}"'
                   ' stroke-width="2"/>')
        yield f'<circle cx="{x(found["mean"])}" cy="{y}" r="4" fill="{colour}"/>'


def tick_step(extent: float) -> float:
    """A step of 1, 2 or 5 times a power of ten, with four to ten of them in the extent."""
    if extent <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(extent / 4))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= extent / 4)
