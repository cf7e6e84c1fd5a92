"""The command line of scripts/cluster-check, whose head describes it."""
import argparse
import itertools
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

# Behind the program's own folder, which comes first.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))
from command_line.arguments import Arguments, some_of
from command_line.program import kinship, required
from command_line.refused import FAULTS, INTERNAL, Refused, refuse_when_stopped, run_program
import exactness
import report
import scene
import times
import traffic
from cluster import Runner

PARTS = ("bytes", "seconds", "exact")


def setting(text: str) -> str:
    key, equals, _ = text.partition("=")
    if not equals or not key or key.strip() in ("name", "output", "steps", "reduce.levels", "reduce.wire"):
        raise argparse.ArgumentTypeError(
            f"expected KEY=VALUE with a key that the check does not set itself, found '{text}'")
    return text


def arguments():
    parser = Arguments("cluster-check")
    parser.add_argument("--only", type=some_of(PARTS), default=list(PARTS))
    parser.add_argument("--levels", type=some_of(("auto", "1", "2")), default=["1", "2"])
    parser.add_argument("--wires", type=some_of(("fp32", "bf16")), default=["fp32", "bf16"])
    parser.add_argument("--set", type=setting, action="append", default=[])
    parser.add_argument("--kinship", default=kinship())
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    return parser.parse_args()


def checks(given):
    """Returns each check with its part, its words, and a function that makes its rows."""
    variants = [
        (f"reduce.levels={levels}", f"reduce.wire={wire}")
        for levels, wire in itertools.product(given.levels, given.wires)]
    wires = [(f"reduce.wire={wire}",) for wire in given.wires]
    single = []

    def exact(runner, variant):
        if not single:
            single.append(exactness.alone(runner))
        return exactness.check(runner, variant, single[0])

    for variant in variants if "bytes" in given.only else []:
        yield f"bytes: {traffic.HOSTS}, {' '.join(variant)}", lambda runner, own=variant: traffic.check(runner, own)
    for hosts, variant in itertools.product(times.HOSTS, wires) if "seconds" in given.only else []:
        yield (f"seconds: {hosts}, {' '.join(variant)}",
               lambda runner, where=hosts, own=variant: times.check(runner, where, own))
    for variant in variants if "exact" in given.only else []:
        yield (f"exact: {exactness.HOSTS}, then {exactness.LEFT}, {' '.join(variant)}",
               lambda runner, own=variant: exact(runner, own))


def run(given, program: str, folder: Path):
    runner = Runner(program, folder, given.set)
    print(f"cluster-check: {program}, files in {folder}", file=sys.stderr)
    scene.make(runner)
    rows = []
    for name, check in checks(given):
        began = time.monotonic()
        rows += check(runner)
        print(f"cluster-check: {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return rows


def main():
    given = arguments()
    if given.dry_run:
        for name, _ in checks(given):
            print(name)
        return 0
    program = required(given.kinship, "--kinship")
    refuse_when_stopped()
    folder = Path(tempfile.mkdtemp(prefix="cluster-check-"))
    kept = given.keep
    try:
        rows = run(given, program, folder)
    except Refused as refused:
        # Its message names files.
        kept = kept or refused.status == INTERNAL
        raise
    finally:
        if not kept:
            shutil.rmtree(folder)
    broken = sum(not row.holds for row in rows)
    print(report.markdown(rows))
    print(json.dumps({
        "rows": [row.document() for row in rows], "broken": broken, "settings": given.set,
        "cores": len(os.sched_getaffinity(0)), "processor": platform.machine()}))
    if broken:
        print(f"cluster-check: {broken} of {len(rows)} bounds are broken", file=sys.stderr)
    return FAULTS if broken else 0


if __name__ == "__main__":
    run_program("cluster-check", main, input_output=INTERNAL)
