"""The figures of a check: what was measured beside what was foretold, and the bound on the difference."""
from dataclasses import asdict, dataclass


@dataclass
class Row:
    part: str
    where: str
    setting: str
    quantity: str
    measured: float
    foretold: float
    # The relative difference of the two, which the bound limits: of several hosts or steps the largest.
    error: float
    bound: float

    @property
    def holds(self) -> bool:
        # A figure that is no number breaks any bound.
        return abs(self.error) <= self.bound

    def document(self):
        # JSON has no word for a figure that is no number.
        found = {key: None if value != value else value for key, value in asdict(self).items()}
        return {**found, "holds": self.holds}


def markdown(rows) -> str:
    lines = ["| part | where | setting | quantity | measured | foretold | error | bound | |",
             "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | --- |"]
    for row in rows:
        lines.append(
            f"| {row.part} | {row.where} | {row.setting} | {row.quantity} | {row.measured:.5g} | {row.foretold:.5g} |"
            f" {share(row.error, sign='+')} | {share(row.bound)} | {'holds' if row.holds else 'BROKEN'} |")
    return "\n".join(lines)


def share(value: float, sign="") -> str:
    return f"{100 * value:{sign}.2g} %" if abs(value) < 0.001 else f"{100 * value:{sign}.1f} %"
