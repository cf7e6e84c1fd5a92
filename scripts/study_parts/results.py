"""A study's results: a file of JSON lines beside the plan, one for each arm and seed, and one for each teacher."""
import fcntl
import json
import os

from command_line.refused import BAD_DATA, INPUT_OUTPUT, TRY_AGAIN, Refused
from plain_yaml import CONTROL
from plan import Plan

# One for all arms of a seed: otherwise more than the arm would differ.
CONDITIONS = ("commit", "teacher", "processor")
TEACHER = "teacher"


class Results:
    def __init__(self, plan: Plan):
        self.plan = plan
        self.path = plan.path.with_suffix(".results.jsonl")
        # Line number -> what it holds; of the plan's arms and number of steps.
        self.lines = {}
        self.teachers = []
        lines = self.path.read_bytes().split(b"\n") if self.path.exists() else []
        for number, line in enumerate(lines, 1):
            if line.strip():
                self.take(number, self.decoded(number, line))

    def fail(self, words: str):
        raise Refused(f"{self.path}, {words}", BAD_DATA)

    def decoded(self, number: int, line: bytes):
        try:
            found = json.loads(line.decode())
            numbers = [value for figures in found["figures"].values() for value in figures.values()]
            sound = all(0 <= value <= 1 for value in numbers) and 0 <= found["seconds"] < 1e9
            sound = sound and not any(CONTROL.search(found[key]) for key in ("arm", *CONDITIONS))
            sound = sound and (found["arm"] == TEACHER or isinstance(found["seed"] + found["steps"], int))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            sound = False
        if not sound:
            self.fail(f"line {number}: expected an arm's figures as this script writes them; take the line out")
        return found

    def take(self, number: int, found):
        plan, arm, seed = self.plan, found["arm"], found.get("seed")
        if arm == TEACHER:
            self.teachers.append(found)
            return
        if arm not in plan.arms or found["steps"] != plan.steps_of(plan.arms[arm]):
            return
        for key, wanted in plan.identity(plan.arms[arm]).items():
            if found.get(key) != wanted:
                self.fail(
                    f"line {number}: {arm} with seed {seed} was measured with {key} {found.get(key)}, and the plan has"
                    f" {wanted}; give the arm another name, or take out its lines")
        for other, line in self.lines.items():
            if line["seed"] != seed:
                continue
            if line["arm"] == arm:
                self.fail(f"lines {other} and {number} are both {arm} with seed {seed}; take one of them out")
            for key in CONDITIONS:
                if line[key] != found[key]:
                    self.fail(
                        f"lines {other} and {number}: {key} of seed {seed} is “{line[key]}” for {line['arm']} and"
                        f" “{found[key]}” for {arm}; all arms of a seed must have the same: take out the lines of one,"
                        " and the study measures those arms again")
        self.lines[number] = found

    def has(self, arm: str, seed: int) -> bool:
        return any(line["arm"] == arm and line["seed"] == seed for line in self.lines.values())

    def require(self, seed: int, now):
        """Refuses to go on with a seed of which some arms were measured under other conditions than these."""
        numbers = [number for number, line in self.lines.items() if line["seed"] == seed]
        for number in numbers:
            for key in CONDITIONS:
                if self.lines[number][key] != now[key]:
                    self.fail(
                        f"line {number}: seed {seed} was begun with {key} “{self.lines[number][key]}”, and here it is"
                        f" “{now[key]}”; finish the seed there, leave it out with --seeds, or take out its lines"
                        f" ({', '.join(map(str, numbers))}) to measure it anew here")

    def figures(self, arm: str, name: str, figure: str):
        """seed -> value of an arm's figure on a set."""
        return {
            line["seed"]: line["figures"][name][figure] for line in self.lines.values()
            if line["arm"] == arm and figure in line["figures"].get(name, {})}

    def append(self, found):
        """Adds a line for good: it is on the disk when this returns."""
        with open(self.path, "ab+") as file:
            file.seek(0)
            before = file.read()
            # A line that was cut off would swallow this one.
            cut = before != b"" and not before.endswith(b"\n")
            file.write(b"\n" * cut + json.dumps(found).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.take(before.count(b"\n") + cut + 1, found)

    def lock(self):
        """Keeps a second study with this plan away for as long as this process lives."""
        try:
            self.guard = open(self.path, "a", encoding="utf-8")
            fcntl.flock(self.guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"{self.path}: another scripts/study is at work on it", TRY_AGAIN) from None
        except OSError as error:
            raise Refused(f"cannot write {self.path}: {error.strerror}", INPUT_OUTPUT) from None
