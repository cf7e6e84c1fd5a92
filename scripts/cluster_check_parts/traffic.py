"""The bytes that hosts send in a step, against plan's."""
import json
import re

from command_line.refused import INTERNAL, Refused
from cluster import RECIPE, Hosts, Runner
from report import Row

HOSTS = Hosts(8, 4)
BOUND = 0.05
# The steps of two runs, whose difference leaves out start and end, up to the few megabytes by which a run measures a
# link when it ends.
FEW, MANY = 5, 35
# What a host sends is what its port of the switch receives.
COUNTER = re.compile(r"^COUNTER (before|after) +port-(\d+): *(\d+) ", re.MULTILINE)
SCRIPT = """
count() { sed -n "s/^ *port-/COUNTER $1 port-/p" /proc/net/dev; }
count before
"$@"
count after
"""


def check(runner: Runner, variant):
    found = {steps: sent(runner, variant, steps) for steps in (FEW, MANY)}
    measured = [(found[MANY][host] - found[FEW][host]) / (MANY - FEW) for host in sorted(found[MANY])]
    plan = json.loads(runner.alone(
        "plan", str(RECIPE), *runner.settings(*variant), "--ranks", str(HOSTS.ranks), "--nodes", str(HOSTS.count),
        "--gflops", "10", "--json").splitlines()[-1])
    foretold = plan["nodeBytes"]
    worst = max(measured, key=lambda value: abs(value - foretold))
    return [Row(
        "bytes", str(HOSTS), " ".join(variant), "MB a host sends in a step", sum(measured) / len(measured) / 1e6,
        foretold / 1e6, worst / foretold - 1, BOUND)]


def sent(runner: Runner, variant, steps: int):
    """Returns the bytes that each host sends in a whole run of some steps."""
    output = runner.on(
        HOSTS, "train", str(RECIPE), "--resume", "fresh", script=SCRIPT,
        *runner.settings("name=bytes", f"steps={steps}", "checkpoint.every=none", *variant))
    return counted(output)


def counted(output: str):
    counts = {"before": {}, "after": {}}
    for when, host, value in COUNTER.findall(output):
        counts[when][int(host)] = int(value)
    if any(len(found) != HOSTS.count for found in counts.values()):
        raise Refused(f"expected counters of {HOSTS.count} hosts, found {counts}", INTERNAL)
    return {host: value - counts["before"][host] for host, value in counts["after"].items()}
