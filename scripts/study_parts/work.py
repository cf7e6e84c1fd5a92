"""Running a study: the data, the teacher, and every arm with every seed that the results do not have yet."""
import json
import math
import os
import shutil
import subprocess
import time
from pathlib import Path

from command_line.data import data_folder
from command_line.files import publish
from command_line.refused import BAD_DATA, Refused
import table
from conditions import conditions, weights
from jobs import Jobs
from plan import RETRIEVAL, ZERO_SHOT, Arm, Plan, read
from results import TEACHER, Results

DIRECTIONS = {"i2t": "image_to_text", "t2i": "text_to_image"}


class Study:
    def __init__(self, plan: Plan, results: Results, arms, ranks: int):
        self.plan, self.results, self.arms, self.ranks = plan, results, arms, ranks
        self.todo = [(arm, seed) for seed in plan.seeds for arm in arms if not results.has(arm.name, seed)]

    def run(self):
        self.results.lock()
        self.make_ready()
        for seed in self.plan.seeds:
            arms = [arm for arm, other in self.todo if other == seed]
            if not arms:
                continue
            self.results.require(seed, self.conditions)
            if self.plan.cache:
                self.precompute(seed)
            for arm in arms:
                done = [pair for pair in self.todo if self.results.has(pair[0].name, pair[1])]
                say(f"{arm.name}, seed {seed}: run {len(done) + 1} of {len(self.todo)}, {left(self)}")
                self.results.append(self.measure(arm, seed))
                table.write(self.plan, self.results, self.arms)
            if self.plan.cache:
                shutil.rmtree(self.cache(seed), ignore_errors=True)

    def make_ready(self):
        """Makes the data and the teacher, and tries the arms' settings."""
        self.jobs = Jobs(self.ranks)
        self.plan.runs.mkdir(parents=True, exist_ok=True)
        for command in self.plan.prepare:
            say(command)
            names = {**os.environ, "data": data_folder(), "runs": str(self.plan.runs), "kinship": self.jobs.kinship}
            if self.jobs.run(["bash", "-euo", "pipefail", "-c", command], env=names) != 0:
                raise Refused(f"{self.plan.path}: prepare: the command failed: {command}", BAD_DATA)
        self.teacher = self.prepare_teacher()
        self.conditions = conditions(self.teacher)
        self.report_teacher()
        self.try_settings()

    # MARK: The parts of a study that is an array of batch jobs

    def prepare(self):
        """Makes what all runs share: the data, the teacher, and the embeddings of each seed that is not finished."""
        self.results.lock()
        self.make_ready()
        for seed in dict.fromkeys(seed for _, seed in self.todo):
            self.results.require(seed, self.conditions)
            if self.plan.cache:
                self.precompute(seed)

    def run_task(self, number: int):
        """Makes one run, of which `prepare` has made what it needs. Others run beside it, so its figures go to a file of
        its own, and `collect` takes them from there."""
        pairs = [(arm, seed) for seed in self.plan.seeds for arm in self.arms]
        if number > len(pairs):
            raise Refused(f"--task: expected a number from 1 to {len(pairs)}, found {number}")
        arm, seed = pairs[number - 1]
        if self.results.has(arm.name, seed) or self.figures_file(arm, seed).exists():
            say(f"{arm.name}, seed {seed}: finished")
            return
        self.jobs, self.teacher = Jobs(self.ranks), self.known_teacher()
        self.conditions = conditions(self.teacher)
        say(f"{arm.name}, seed {seed}")
        publish(self.figures_file(arm, seed), json.dumps(self.measure(arm, seed)) + "\n")

    def collect(self):
        """Takes the figures of finished tasks into the results, and removes the embeddings of seeds that are finished."""
        self.results.lock()
        for arm, seed in self.todo:
            path = self.figures_file(arm, seed)
            if path.exists():
                found = self.figures(path, arm, seed)
                self.results.require(seed, found)
                self.results.append(found)
                path.unlink()
        for seed in self.plan.seeds:
            if all(self.results.has(arm.name, seed) for arm in self.arms):
                shutil.rmtree(self.cache(seed), ignore_errors=True)

    def figures(self, path: Path, arm: Arm, seed: int):
        """The line of the results that a task has left. Throws unless it is this arm's, as the plan has it now."""
        wanted = {"arm": arm.name, "seed": seed, **self.plan.identity(arm)}
        try:
            found = self.results.decoded(1, read(path).encode())
            if all(found.get(key) == value for key, value in wanted.items()):
                return found
        except Refused:
            pass
        raise Refused(
            f"{path}: expected the figures of {arm.name} with seed {seed} and the plan's settings; remove the file, and the"
            " run is evaluated again", BAD_DATA)

    def figures_file(self, arm: Arm, seed: int) -> Path:
        return self.plan.runs / f"{arm.name}-seed-{seed}.figures.json"

    # MARK: The teacher

    def prepare_teacher(self):
        """The path of the teacher, which is trained if the plan has a recipe for it."""
        teacher, path = self.plan.teacher, self.known_teacher()
        if not teacher or teacher["path"]:
            return path
        settings = teacher["settings"] + ([f"steps={teacher['steps']}"] if teacher["steps"] else [])
        state = State(path, {"settings": settings, "recipe": teacher["digest"]})
        if not weights(path).is_file():
            say("the teacher")
            with state:
                self.train(path, teacher["recipe"], settings)
        return path

    def known_teacher(self):
        """The path of the teacher, None if the plan has none. One that the plan trains need not be there yet."""
        teacher = self.plan.teacher
        if not teacher:
            return None
        if not teacher["path"]:
            return self.plan.runs / TEACHER
        path = Path(self.plan.fill(teacher["path"]))
        if not path.exists():
            raise Refused(f"{self.plan.path}: teacher.path: there is no {path}")
        return path

    def report_teacher(self):
        """Adds the teacher's figures to the results, if it is a run and they are not there."""
        known = [line["teacher"] for line in self.results.teachers]
        if not self.teacher or self.conditions["teacher"] in known or not (self.teacher / "checkpoints").is_dir():
            return
        say("the teacher's evaluation")
        began = time.monotonic()
        figures = self.evaluate(self.teacher, self.plan.runs)
        self.results.append({
            "arm": TEACHER, **self.conditions, "seconds": round(time.monotonic() - began, 1), "figures": figures})

    # MARK: The arms

    def settings(self, own, seed: int, steps: int, cached=True):
        """All settings of a run but its name; the arm's own are last, so that they hold."""
        words = [f"seed={seed}", f"data.seed={seed}", f"steps={steps}", *self.plan.settings]
        if self.teacher:
            words.append(f"teacher.model={self.teacher}")
        if self.plan.cache:
            words.append(f"teacher.cache={self.cache(seed) if cached else 'none'}")
        return words + own

    def cache(self, seed: int) -> Path:
        return self.plan.runs / f"embeddings-seed-{seed}"

    def precompute(self, seed: int):
        say(f"the teacher's embeddings for seed {seed}")
        settings = sets(self.plan, self.settings([], seed, self.plan.steps))
        self.jobs.on_ranks("precompute", self.plan.recipe, *settings, purpose=f"embeddings for seed {seed}")

    def try_settings(self):
        """Dry runs of all arms that have not begun: a mistake in the last is found before the first is trained."""
        for arm in {arm.name: arm for arm, _ in self.todo}.values():
            words = self.settings(arm.settings, self.plan.seeds[0], self.plan.steps_of(arm), cached=False)
            command = [self.jobs.kinship, "train", self.plan.recipe, "--dry-run", *sets(self.plan, words)]
            if code := self.jobs.run(command, stdout=subprocess.DEVNULL):
                raise Refused(f"{self.plan.path}: arms.{arm.name}: not a valid run; see the message above", code)

    def measure(self, arm: Arm, seed: int):
        """Trains and evaluates, and returns the line of the results."""
        run = self.plan.runs / f"{arm.name}-seed-{seed}"
        identity = self.plan.identity(arm)
        state = State(run, {**identity, **self.conditions})
        with state:
            self.train(run, self.plan.recipe, self.settings(arm.settings, seed, identity["steps"]))
            figures = self.evaluate(run, run)
        return {
            "arm": arm.name, "seed": seed, **identity, **self.conditions, "seconds": round(state.seconds, 1),
            "figures": figures}

    def train(self, run: Path, recipe: str, settings):
        settings = [f"name={run.name}", f"output={run.parent}", *settings]
        self.jobs.on_ranks("train", recipe, *sets(self.plan, settings), "--resume", "auto", purpose=run.name)

    def evaluate(self, run: Path, folder: Path):
        """set -> figure -> share; the evaluations' own files are left in the folder."""
        figures = {}
        for found in self.plan.sets:
            what = ["--checkpoint", str(run), "--dataset", self.plan.fill(found.options["dataset"])]
            kinds = {"retrieval": RETRIEVAL} | (
                {"zero-shot": ZERO_SHOT} if any(option in found.options for option in ZERO_SHOT) else {})
            reports = {}
            for kind, known in kinds.items():
                file = folder / f"{found.name}-{kind}.json"
                options = [
                    word for option in known if option in found.options
                    for word in (f"--{option}", self.plan.fill(found.options[option]))]
                self.jobs.on_ranks(
                    "evaluate", kind, *what, *options, "--json", str(file), purpose=f"{run.name} on {found.name}")
                reports[kind] = json.loads(file.read_text("utf-8"))
            figures[found.name] = shares(reports)
        return figures


class State:
    """What a run was begun with and how long it has taken, in a file beside its folder. `with` measures the time, also
    if the run is stopped. Throws if it was begun otherwise."""

    def __init__(self, run: Path, conditions):
        self.path, self.conditions, self.seconds = run.with_name(f"{run.name}.json"), conditions, 0.0
        if not self.path.exists():
            return
        try:
            before = json.loads(read(self.path))
            self.seconds = before["seconds"]
            if not 0 <= self.seconds < 1e9:
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Refused(
                f"{self.path}: expected what {run} was begun with, as this script writes it; remove both to begin anew",
                BAD_DATA) from None
        for key, wanted in conditions.items():
            if before.get(key) != wanted:
                raise Refused(
                    f"{run} was begun with {key} {before.get(key)}, and now it is {wanted}: go on as it was begun, or"
                    f" remove {run} and {self.path} to begin anew, or give another folder with --runs", BAD_DATA)

    def __enter__(self):
        self.began = time.monotonic()
        self.save()

    def __exit__(self, *_):
        self.seconds += time.monotonic() - self.began
        self.save()

    def save(self):
        publish(self.path, json.dumps({**self.conditions, "seconds": self.seconds}) + "\n")


# MARK: Facts

def shares(reports):
    """The figures of a set, from the JSON of its evaluations."""
    found = {}
    for short, direction in DIRECTIONS.items():
        recall = reports["retrieval"][direction]
        found |= {f"{short} {key}": recall[key] for key in ("MRR", "R@1", "R@5", "R@10")}
    found["MRR"] = (found["i2t MRR"] + found["t2i MRR"]) / 2
    if "zero-shot" in reports:
        found |= {"zero-shot top-1": reports["zero-shot"]["top1"], "zero-shot top-5": reports["zero-shot"]["top5"]}
    return found


def sets(plan: Plan, settings):
    return [word for setting in settings for word in ("--set", plan.fill(setting))]


def left(study) -> str:
    """The time that the remaining runs will take, at the pace of those in the results."""
    seconds = [line["seconds"] for line in study.results.lines.values()]
    runs = sum(not study.results.has(arm.name, seed) for arm, seed in study.todo)
    if not seconds:
        return "time left not known yet"
    minutes = runs * sum(seconds) / len(seconds) / 60
    return f"about {minutes / 60:.1f} h left" if minutes > 90 else f"about {math.ceil(minutes)} min left"


def say(words: str):
    print(f"\n== {words}", flush=True)
