"""The seconds in which a step reduces gradients and gathers parameters, against plan's."""
import json
import re
import statistics
from pathlib import Path

from command_line.refused import INTERNAL, Refused
from cluster import RECIPE, Hosts, Runner
from report import Row

HOSTS = [Hosts(count, 1, bandwidth) for count in (2, 4) for bandwidth in ("100mbit", "1gbit")]
BOUND = 0.25
STEPS = 10
# The first steps allocate memory, and connections find their speed.
LEFT_OUT = 3
# Between namespaces of one machine, under load.
LATENCY = "50us"
SPAN = re.compile(r"(reduce|gather) bucket \d+(, touched rows)?")


def check(runner: Runner, hosts: Hosts, variant):
    settings = ["reduce.overlap=false", *variant]
    runner.on(
        hosts, "train", str(RECIPE), "--resume", "fresh", "--trace", f"{runner.folder}/trace",
        *runner.settings("name=seconds", f"steps={STEPS}", "checkpoint.every=none", *settings))
    measured = exchanging([runner.folder / f"trace.{rank}.json" for rank in range(hosts.ranks)])
    plan = json.loads(runner.alone(
        "plan", str(RECIPE), *runner.settings(*settings), "--ranks", str(hosts.ranks), "--nodes", str(hosts.count),
        "--bandwidth", hosts.bandwidth, "--latency", LATENCY, "--gflops", "10", "--json").splitlines()[-1])
    foretold = plan["seconds"]["exchange"]
    return [Row(
        "seconds", str(hosts), " ".join(variant), "s a step reduces and gathers", measured, foretold,
        measured / foretold - 1, BOUND)]


def exchanging(traces) -> float:
    """Returns the seconds of a step's exchanges: of each bucket the median over the steps of what the rank took that
    came to it last, for the others also wait for that one."""
    ranks = [spans(path) for path in traces]
    counts = {tuple(sorted((name, len(found)) for name, found in rank.items())) for rank in ranks}
    if len(counts) != 1 or not ranks[0] or min(map(len, ranks[0].values())) <= LEFT_OUT:
        raise Refused(f"expected the same exchanges of more than {LEFT_OUT} steps in all of {traces[0]} and its like",
                      INTERNAL)
    return sum(
        statistics.median(min(rank[name][step] for rank in ranks) for step in range(LEFT_OUT, len(found)))
        for name, found in ranks[0].items())


def spans(path: Path):
    """Returns the seconds of a rank's exchanges by their names, in their order."""
    found = {}
    for event in json.loads(path.read_text("utf-8")):
        if event.get("ph") == "X" and SPAN.fullmatch(event["name"]):
            found.setdefault(event["name"], []).append((event["ts"], event["dur"] / 1e6))
    return {name: [seconds for _, seconds in sorted(times)] for name, times in found.items()}
