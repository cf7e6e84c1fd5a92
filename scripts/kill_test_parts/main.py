"""The command line of scripts/kill-test, whose head describes it."""
import argparse
import math
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

# Behind the program's own folder, which comes first.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))
from command_line.arguments import Arguments, number, some_of
from command_line.program import kinship, required
from command_line.refused import FAULTS, INTERNAL, Refused, refuse_when_stopped, run_program
import scene
from commands import commands
from job import LAUNCHERS, STOPS
from trial import SIGNALS, Kill, Trials, counted

MOMENTS = re.compile(r"(\d+(?:\.\d+)?)(s?)(?:-(\d+(?:\.\d+)?)(s?))?")
count = number(1, 999_999)


def seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,4}(\.\d+)?", text) or float(text) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1 second, found '{text}'")
    return float(text)


def moments(text: str):
    match = MOMENTS.fullmatch(text)
    if not match or (match[3] and (match[2] != match[4] or float(match[3]) < float(match[1]))):
        raise argparse.ArgumentTypeError(f"expected a range such as 0-1.05 or 0s-0.1s, found '{text}'")
    return float(match[1]), float(match[3] or match[1]), bool(match[2])


def arguments():
    targets = ("rank", "job", *LAUNCHERS)
    parser = Arguments("kill-test")
    parser.add_argument("--kills", type=count, default=20)
    parser.add_argument("--seed", type=count, default=1)
    parser.add_argument("--commands", type=some_of(commands(Path())), default=list(commands(Path())))
    parser.add_argument("--ranks", type=lambda text: [count(word) for word in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--signals", type=some_of(SIGNALS), default=SIGNALS)
    parser.add_argument("--targets", type=some_of(targets, r"rank-\d{1,5}"), default=targets)
    parser.add_argument("--moments", type=moments, default=(0.0, 1.05, False))
    parser.add_argument("--deadline", type=seconds, default=3.0)
    parser.add_argument("--kinship", default=kinship())
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    return parser.parse_args()


def choices(given, command):
    """Returns every number of ranks, signal and target that are possible together with a command."""
    cores = len(os.sched_getaffinity(0))
    found = []
    for ranks in [1] if command.alone else given.ranks:
        own = [f"rank-{rank}" for rank in range(ranks) if {"rank", f"rank-{rank}"} & set(given.targets)]
        others = [target for target in ("job", *LAUNCHERS) if target in given.targets and ranks > 1]
        for target in own + others:
            # The launch script gives each rank a core of its own.
            if target == "script" and ranks > cores:
                continue
            # Who notices that somebody stands still is another rank.
            found += [
                (ranks, name, target) for name in given.signals
                if name != "STOP" or (ranks > 1 and target.startswith("rank-"))]
    return found


def dealt(values, chance):
    """Deals values without end, each as often as the others."""
    while True:
        yield from chance.sample(values, len(values))


def chosen(given, found):
    """Returns the kills that the options and the seed choose."""
    chance = random.Random(given.seed)
    possible = {name: choices(given, found[name]) for name in given.commands}
    names = [name for name in given.commands for _ in range(found[name].share) if possible[name]]
    if not names:
        raise Refused("no kill is possible with these commands, ranks, signals and targets together: STOP needs another"
                      " rank, and one rank has neither mpirun nor the launch script; see scripts/kill-test --help")
    signals = dealt(given.signals, chance)
    low, high, in_seconds = given.moments
    kills = []
    for _, name in zip(range(given.kills), dealt(names, chance)):
        mine = next(mine for wanted in signals if (mine := [one for one in possible[name] if one[1] == wanted]))
        ranks, sent, target = chance.choice(mine)
        kills.append(Kill(found[name], ranks, sent, target, round(chance.uniform(low, high), 3), in_seconds))
    return kills


def table(title: str, key, outcomes):
    """Returns a table of outcomes by `key` of their kills."""
    rows = [(title, "kills", "late", "again", "slowest end", "faults", "exit codes")]
    for name in dict.fromkeys(key(kill) for kill, _ in outcomes):
        own = [outcome for kill, outcome in outcomes if key(kill) == name]
        codes = Counter("none" if outcome.code is None else str(outcome.code) for outcome in own)
        rows.append((
            name, len(own), sum(outcome.late for outcome in own), sum(outcome.again for outcome in own),
            f"{max(outcome.seconds for outcome in own):.1f} s", sum(bool(outcome.faults) for outcome in own),
            ", ".join(f"{code} × {count}" for code, count in sorted(codes.items()))))
    return "\n".join(f"{row[0]:14}" + "".join(f"{cell:>13}" for cell in row[1:6]) + f"  {row[6]}" for row in rows)


def run(given, program: str, folder: Path, outcomes):
    """Carries out the kills, and adds each with its outcome to the list."""
    print(f"{counted(given.kills, 'kill')} with seed {given.seed}, {program}, files in {folder}", flush=True)
    scene.make(folder / "scene", program, given.deadline)
    trials = Trials(program, folder, given.deadline)
    for index, kill in enumerate(chosen(given, commands(folder / "scene")), 1):
        own = folder / f"kill-{index}"
        outcome = trials.run(kill, own)
        outcomes.append((kill, outcome))
        end = "too late" if outcome.late else f"{outcome.code} after {outcome.seconds:.1f} s"
        end += ", by a fault of mpirun's own" if outcome.mpirun_failed else ""
        print(f"{index:4} {kill}: {end}{', started again' if outcome.again else ''}", flush=True)
        if outcome.faults:
            print(f"kill-test: fault: {kill}: {'; '.join(outcome.faults)}; see {own}; again: scripts/kill-test"
                  f" {kill.options} --deadline {given.deadline:g} --kinship {program}", file=sys.stderr, flush=True)
        elif not given.keep:
            shutil.rmtree(own)


def main():
    given = arguments()
    if given.dry_run:
        for kill in chosen(given, commands(Path())):
            print(f"scripts/kill-test {kill.options}")
        return 0
    program = required(given.kinship, "--kinship")
    # The jobs begin with the signals' own meanings, whatever this process was started with.
    refuse_when_stopped(STOPS, ignored=True)
    began, outcomes, kept = time.monotonic(), [], given.keep
    folder = Path(tempfile.mkdtemp(prefix="kill-test-"))
    try:
        run(given, program, folder, outcomes)
    except Refused as refused:
        # Its message names a file.
        kept = kept or refused.status == INTERNAL
        raise
    finally:
        faults = sum(bool(outcome.faults) for _, outcome in outcomes)
        if not kept and not faults:
            shutil.rmtree(folder)
    print(f"\n{table('command', lambda kill: kill.command.name, outcomes)}")
    print(f"\n{table('signal', lambda kill: kill.signal, outcomes)}")
    print(f"\n{counted(len(outcomes), 'kill')} with seed {given.seed} in {math.ceil(time.monotonic() - began)} s:"
          f" {counted(faults, 'fault')}")
    return FAULTS if faults else 0


if __name__ == "__main__":
    run_program("kill-test", main, input_output=INTERNAL)
