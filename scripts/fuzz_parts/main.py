"""The command line of scripts/fuzz, whose head describes it."""
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict
from functools import partial
from pathlib import Path

# Behind the program's own folder, which comes first. Pictures, signals and words for counts are those of the kill test.
SCRIPTS = Path(__file__).resolve().parent.parent
sys.path[1:1] = [str(SCRIPTS), str(SCRIPTS / "kill_test_parts")]
from command_line.arguments import Arguments, number, some_of
from command_line.program import ROOT, kinship, required
from command_line.refused import FAULTS, INTERNAL, Refused, refuse_when_stopped, run_program
import seeds
from coverage import READERS, READERS_IN_C, SECONDS, fuzz
from inputs import MEBI, judged, refusal
from job import STOPS
from kinds import KINDS
from trial import counted

MOST = 9_999_999


def seed(text: str) -> str:
    """Returns a seed; for `commit` the id of the package's commit, or 1 outside of a repository."""
    if text != "commit":
        return text
    command = ["git", "-C", ROOT, "rev-parse", "HEAD"]
    found = shutil.which("git") and subprocess.run(command, capture_output=True, text=True, check=False)
    return found and found.stdout.strip() or "1"


def arguments():
    parser = Arguments("fuzz")
    parser.add_argument("--inputs", type=number(1, MOST), default=1000)
    parser.add_argument("--seed", type=seed, default="1")
    parser.add_argument("--only", type=number(0, MOST))
    parser.add_argument("--kinds", type=some_of(KINDS), default=list(KINDS))
    parser.add_argument("--without", type=some_of(KINDS), default=[])
    parser.add_argument("--seconds", type=number(1, MOST))
    parser.add_argument("--deadline", type=number(1, MOST), default=20)
    parser.add_argument("--processes", type=number(1, MOST), default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output")
    parser.add_argument("--json")
    parser.add_argument("--kinship", default=kinship())
    parser.add_argument("--coverage", choices=READERS)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--names", action="store_true")
    given = parser.parse_args()
    given.kinds = [name for name in given.kinds if name not in given.without]
    if not given.kinds:
        raise Refused("no kind is left; see --kinds and --without in scripts/fuzz --help")
    return given


def attempt(program: str, folder: Path, given, number: int):
    """Tries an input in a process of the pool, and removes it if nothing is wrong."""
    own = folder / f"input-{number}"
    own.mkdir()
    outcome = judged(program, folder / "sound", own, number, given)
    if not outcome.verdict and given.only is None:
        shutil.rmtree(own)
    return outcome


def check(program: str, folder: Path, given, name: str) -> str:
    own = folder / f"sound-{name}"
    own.mkdir()
    words = refusal(program, folder / "sound", own, name, given.deadline)
    shutil.rmtree(own)
    return words


def without_stops():
    # The process that started this one ends it.
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


def likeness(outcome) -> str:
    """Returns what findings with one cause have in common: kind, verdict, and the message without names and numbers."""
    words = re.sub(r"[\"“'‘].*?[\"”'’]|\S*/\S*|\b[0-9a-f]{8,}\b|[^\x20-\x7E]+", "…", outcome.words)
    return f"{outcome.kind}: {re.sub(r'[0-9]+', '0', outcome.verdict)}: {re.sub(r'[0-9]+', '0', words)[:100]}"


class Findings:
    """What is wrong: of each likeness the first is kept and printed, and all are counted."""

    def __init__(self, given, program: str, folder: Path):
        self.given, self.program, self.folder = given, program, folder
        self.counts, self.first = Counter(), {}

    def add(self, outcome):
        name, own = likeness(outcome), self.folder / f"input-{outcome.number}"
        self.counts[name] += 1
        if self.counts[name] > 1:
            shutil.rmtree(own)
            return
        self.first[name] = outcome
        again = self.again(outcome.number)
        kept = self.folder / f"finding-{outcome.number}"
        own.rename(kept)
        commands = "".join(f"{shlex.join([self.program, *words])}\n" for words in KINDS[outcome.kind].commands)
        (kept / "command").write_text(
            f"# {again}\ncd {shlex.quote(str(kept))}\nrm -rf out out.*\n{commands}", "utf-8")
        print(f"fuzz: finding: {outcome.kind}: {outcome.verdict}: {printable(outcome.words)} [{outcome.change}]; see"
              f" {kept}; again: {again}", file=sys.stderr, flush=True)

    def again(self, number: int) -> str:
        given = self.given
        chosen = [] if given.kinds == list(KINDS) else ["--kinds", ",".join(given.kinds)]
        words = ["--seed", given.seed, "--only", f"{number}", *chosen, "--kinship", self.program]
        return f"scripts/fuzz {shlex.join(words)}"


def printable(text: str) -> str:
    return "".join(one if one.isprintable() else "…" for one in text)[:300]


def table(outcomes) -> str:
    rows = [("kind", "inputs", "accepted", "findings", "slowest", "memory", "exit codes")]
    for name in sorted({outcome.kind for outcome in outcomes}):
        own = [outcome for outcome in outcomes if outcome.kind == name]
        codes = Counter("none" if outcome.codes[-1] is None else str(outcome.codes[-1]) for outcome in own)
        rows.append((
            name, len(own), codes["0"], sum(bool(outcome.verdict) for outcome in own),
            f"{max(outcome.seconds for outcome in own):.1f} s",
            f"{max(outcome.memory for outcome in own) // MEBI} MiB",
            ", ".join(f"{code} × {count}" for code, count in sorted(codes.items()))))
    return "\n".join(f"{row[0]:22}" + "".join(f"{cell:>10}" for cell in row[1:6]) + f"  {row[6]}" for row in rows)


def run(given, program: str, folder: Path, outcomes, findings: Findings):
    """Tries the inputs, on several processes, until all are done or the time is over."""
    seeds.make(folder / "sound", program)
    numbers = range(given.inputs) if given.only is None else [given.only]
    names = sorted({given.kinds[number % len(given.kinds)] for number in numbers})
    numbers = iter(numbers)
    pool = ProcessPoolExecutor(given.processes, initializer=without_stops)
    try:
        # What refuses everything would find nothing.
        refusals = pool.map(partial(check, program, folder, given), names)
        refused = [f"{name}: {words}" for name, words in zip(names, refusals) if words]
        if refused:
            raise Refused(f"sound files are refused: {'; '.join(refused)}", INTERNAL)
        end = time.monotonic() + (given.seconds or math.inf)
        going = set()
        while True:
            while len(going) < 2 * given.processes and time.monotonic() < end:
                number = next(numbers, None)
                if number is None:
                    break
                going.add(pool.submit(attempt, program, folder, given, number))
            if not going:
                return
            done, going = wait(going, return_when=FIRST_COMPLETED)
            for outcome in sorted((one.result() for one in done), key=lambda one: one.number):
                outcomes.append(outcome)
                if outcome.verdict:
                    findings.add(outcome)
    finally:
        pool.shutdown(cancel_futures=True)


def main():
    given = arguments()
    if given.output and os.path.exists(given.output) and os.listdir(given.output):
        raise Refused(f"{given.output} is not empty; name a new folder with --output")
    if given.dry_run:
        return 0
    # It makes the sound files, which a reader in C has already.
    alone = given.coverage in READERS_IN_C
    program = kinship(given.kinship) if alone else required(given.kinship, "--kinship")
    refuse_when_stopped(STOPS, ignored=True)
    folder = Path(os.path.abspath(given.output or tempfile.mkdtemp(prefix="fuzz-")))
    folder.mkdir(parents=True, exist_ok=True)
    if given.coverage:
        return fuzz(given.coverage, folder, given.seconds or SECONDS, program)
    began, outcomes, findings = time.monotonic(), [], Findings(given, program, folder)
    print(f"at most {counted(given.inputs if given.only is None else 1, 'input')} with seed {given.seed}, {program},"
          f" files in {folder}", flush=True)
    try:
        run(given, program, folder, outcomes, findings)
    finally:
        if given.only is None and not findings.first:
            shutil.rmtree(folder)
    if given.json:
        found = [asdict(outcome) | {"count": findings.counts[name]} for name, outcome in findings.first.items()]
        summary = {"seed": given.seed, "inputs": len(outcomes), "findings": found}
        Path(given.json).write_text(json.dumps(summary, indent=1) + "\n", "utf-8")
    print(f"\n{table(outcomes)}")
    print(f"\n{counted(len(outcomes), 'input')} with seed {given.seed} in {math.ceil(time.monotonic() - began)} s:"
          f" {counted(len(findings.first), 'finding')}")
    return FAULTS if findings.first else 0


if __name__ == "__main__":
    run_program("fuzz", main, input_output=INTERNAL)
