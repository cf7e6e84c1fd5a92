"""A study's plan: arms, seeds, teacher and sets, read from a YAML file. The manual's article Studies has its keys."""
import hashlib
import math
import random
import re
from dataclasses import dataclass, field
from pathlib import Path

from command_line.data import data_folder
from command_line.refused import BAD_DATA, INPUT_OUTPUT, Refused
import plain_yaml

KEYS = ("base", "runs", "prepare", "teacher", "recipe", "settings", "steps", "seeds", "cache", "baseline", "figure",
        "trials", "search", "arms", "development", "confirmation")
# The options of a set by the evaluation that takes them; a set with one of the second is classified too.
RETRIEVAL = ("candidates", "captions", "duplicates")
ZERO_SHOT = ("classes", "templates", "subset")
# What is shown of a set; the first decides, unless `figure` names another. MRR is the mean of both ways.
FIGURES = (
    "MRR", "i2t MRR", "t2i MRR", "i2t R@1", "t2i R@1", "i2t R@5", "t2i R@5", "zero-shot top-1", "zero-shot top-5")
# The study sets these itself, equally for all arms.
OWN = ("name", "output", "seed", "data.seed", "steps")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")
# The study's own files lie beside the arms' under these names.
TAKEN = ("teacher", "embeddings")
# A mistyped number must not fill the memory.
MOST_SEEDS, MOST_TRIALS = 1000, 1000


@dataclass
class Arm:
    """One objective. `tried` are those of its settings that a search chose, of the arm `parent`. It is trained
    `steps_factor` times as many steps as the plan says: an arm whose steps are quicker takes the same time with more."""
    name: str
    settings: list
    parent: str
    tried: list = field(default_factory=list)
    steps_factor: float = 1


@dataclass
class EvaluationSet:
    name: str
    purpose: str
    options: dict


class Plan:
    def __init__(self, path: Path, runs=None):
        self.path, self.name = path, path.stem
        # Between the plan's name and the endings of the table's files.
        self.tables = "results"
        keys = self.load(path, [])
        for key in keys:
            if key not in KEYS:
                self.fail(f"there is no key {key}; there are: {', '.join(KEYS)}")

        self.runs = Path(runs or self.text(keys, "runs", f"runs/studies/{self.name}"))
        self.prepare = self.texts(keys.get("prepare", []), "prepare")
        self.recipe = self.text(keys, "recipe")
        self.digest = recipe_digest(self.recipe)
        self.settings = self.list_of_settings(keys.get("settings", []), "settings")
        self.steps = self.count(self.text(keys, "steps"), "steps")
        self.seeds = seeds(self.text(keys, "seeds"), f"{path}: seeds")
        self.cache = self.choice(keys, "cache", ("no", "yes")) == "yes"
        self.figure = self.choice(keys, "figure", FIGURES)
        self.teacher = self.read_teacher(keys.get("teacher", ""))
        if self.cache and not self.teacher:
            self.fail("cache: yes stores a teacher's embeddings, and there is none; give teacher, or leave cache out")
        self.arms = self.read_arms(self.section(keys, "arms"), keys)
        self.baseline = self.text(keys, "baseline")
        if self.baseline not in self.arms:
            self.fail(f"baseline: expected one of the arms that is not searched, found {self.baseline}")
        self.sets = [
            self.read_set(name, purpose, options)
            for purpose in ("development", "confirmation") for name, options in self.section(keys, purpose, {}).items()]
        if not self.sets:
            self.fail("expected a set to evaluate on under development or confirmation")
        if len({found.name for found in self.sets}) < len(self.sets):
            self.fail("a set stands under development and under confirmation; leave it out of one")

    # MARK: Reading

    def fail(self, words: str):
        raise Refused(f"{self.path}: {words}")

    def load(self, path: Path, before):
        """The keys of a plan, laid over those of its base."""
        if path.resolve() in before:
            self.fail(f"base: {path} is based on itself")
        keys = plain_yaml.parse(read(path), str(path))
        if not isinstance(keys, dict):
            self.fail("expected keys, found a list")
        if "base" not in keys:
            return keys
        return {**self.load(path.parent / self.text(keys, "base"), before + [path.resolve()]), **keys}

    def text(self, keys, key, default=None) -> str:
        found = keys.get(key, default)
        if not isinstance(found, str) or not found:
            self.fail(f"{key}: expected a text, found {'nothing' if not found else found}")
        return found

    def texts(self, found, key):
        if found == "":
            return []
        if not isinstance(found, list) or not all(isinstance(text, str) and text for text in found):
            self.fail(f"{key}: expected a list of texts, found {found}")
        return found

    def section(self, keys, key, default=None) -> dict:
        found = keys.get(key, default) or default
        if not isinstance(found, dict):
            self.fail(f"{key}: expected names with their values, found {found or 'nothing'}")
        return found

    def choice(self, keys, key, words):
        found = self.text(keys, key, words[0])
        if found not in words:
            self.fail(f"{key}: expected {' or '.join(words)}, found {found}")
        return found

    def count(self, text, key) -> int:
        if not isinstance(text, str) or not re.fullmatch("[1-9][0-9]{0,8}", text):
            self.fail(f"{key}: expected a number from 1 to 999999999, found {text}")
        return int(text)

    def factor(self, text, key) -> float:
        found = float(text) if isinstance(text, str) and re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", text) else 0
        if not 0.01 <= found <= 100:
            self.fail(f"{key}: expected a number from 0.01 to 100, such as 1.6, found {text}")
        return found

    def list_of_settings(self, found, key):
        for setting in self.texts(found, key):
            name, equals, _ = setting.partition("=")
            if not equals or not name:
                self.fail(f"{key}: expected key=value, such as objective.preset=standard, found {setting}")
            if name.strip() in OWN:
                self.fail(f"{key}: {name} is the study's to set, equally for all arms; leave it out")
        return self.texts(found, key)

    def read_teacher(self, found):
        """`recipe` with `steps` and `settings`: trained first; or `path`: a model that is there. None: no teacher."""
        if found in ("", "none"):
            return None
        known = {"recipe", "steps", "settings", "path"}
        if not isinstance(found, dict) or ("path" in found) == ("recipe" in found) or not found.keys() <= known:
            self.fail(f"teacher: expected recipe (with steps, settings) or path, found {found}")
        for key in ("path", "recipe"):
            if key in found and (not isinstance(found[key], str) or not found[key]):
                self.fail(f"teacher.{key}: expected a text, found {found[key] or 'nothing'}")
        return {
            "path": found.get("path"), "recipe": found.get("recipe"),
            "digest": recipe_digest(found["recipe"]) if "recipe" in found else None,
            "steps": self.count(found["steps"], "teacher.steps") if "steps" in found else None,
            "settings": self.list_of_settings(found.get("settings", []), "teacher.settings")}

    def read_set(self, name, purpose, options):
        if not NAME.fullmatch(name):
            self.fail(f"{purpose}: {name} cannot be a set's name; take letters, digits, dots and dashes")
        known = ("dataset", *RETRIEVAL, *ZERO_SHOT)
        if not isinstance(options, dict) or "dataset" not in options or not options.keys() <= set(known):
            rest = ", ".join(known[1:])
            self.fail(f"{purpose}.{name}: expected dataset, and of {rest} what is needed; found {options}")
        for option, value in options.items():
            if not isinstance(value, str) or not value:
                self.fail(f"{purpose}.{name}.{option}: expected a text, found {value or 'nothing'}")
        return EvaluationSet(name, purpose, options)

    # MARK: Arms and trials

    def read_arms(self, found, keys):
        arms = {}
        for name, value in found.items():
            if not NAME.fullmatch(name) or name in TAKEN:
                self.fail(f"arms: {name} cannot be an arm's name; take letters, digits, dots and dashes, and none of"
                          f" {', '.join(TAKEN)}")
            value = value if isinstance(value, dict) else {"settings": value}
            if not value.keys() <= {"settings", "search", "steps_factor"}:
                self.fail(f"arms.{name}: expected settings, and search or steps_factor where wanted, found {value}")
            settings = self.list_of_settings(value.get("settings", []), f"arms.{name}")
            factor = self.factor(value["steps_factor"], f"arms.{name}.steps_factor") if "steps_factor" in value else 1
            if "search" not in value:
                self.add(arms, Arm(name, settings, name, steps_factor=factor))
                continue
            trials = self.count(self.text(keys, "trials"), "trials")
            if trials > MOST_TRIALS:
                self.fail(f"trials: expected at most {MOST_TRIALS}, found {trials}")
            # One search may be that of many arms.
            search = self.section(keys if value["search"] == "common" else value, "search")
            for number, tried in enumerate(self.trials(name, search, trials), 1):
                self.add(arms, Arm(f"{name}-{number:02}", settings + tried, name, tried, factor))
        return arms

    def add(self, arms, arm):
        if arm.name in arms:
            first, second = arms[arm.name].parent, arm.parent
            self.fail(f"arms: {arm.name} names an arm and a trial of another, {first} and {second}; rename one of them")
        arms[arm.name] = arm

    def trials(self, arm, search, count):
        """As many lists of settings as there are trials, the same at every reading. Of each key every value comes up
        equally often, in an order of its own; `{from, to}` are values at equal distances on a logarithmic scale."""
        columns = []
        for key, values in search.items():
            if isinstance(values, dict):
                column = [f"{value:.3g}" for value in self.logarithmic(values, f"arms.{arm}.search.{key}", count)]
            elif isinstance(values, list) and values:
                for value in values:
                    self.texts(value if isinstance(value, list) else [value], f"arms.{arm}.search.{key}")
                column = (values * count)[:count]
            else:
                self.fail(f"arms.{arm}.search.{key}: expected a list or {{from: 0.03, to: 10}}, found {values}")
            if columns:
                random.Random(f"{arm} {key}").shuffle(column)
            # A value may be several settings at once.
            columns.append([value if isinstance(value, list) else [f"{key}={value}"] for value in column])
        trials = [sum(parts, []) for parts in zip(*columns)]
        if len({tuple(trial) for trial in trials}) < count:
            self.fail(f"arms.{arm}: its values do not give {count} different trials; give it more, or set fewer trials")
        for trial in trials:
            self.list_of_settings(trial, f"arms.{arm}.search")
        return trials

    def logarithmic(self, values, key, count):
        try:
            low, high = float(values["from"]), float(values["to"])
        except (KeyError, ValueError, TypeError):
            low = high = math.nan
        if not 0 < low < high < math.inf or high / low == math.inf or len(values) > 2:
            self.fail(f"{key}: expected {{from: 0.03, to: 10}} with 0 < from < to, found {values}")
        return [low * (high / low) ** (index / max(count - 1, 1)) for index in range(count)]

    # MARK: What is measured

    def select(self, names):
        """Leaves these arms only; a searched arm stands for its trials."""
        for name in names:
            if name not in self.arms and name not in {arm.parent for arm in self.arms.values()}:
                raise Refused(f"--only: there is no arm {name}; there are: {', '.join(self.arms)}")
        return [arm for arm in self.arms.values() if arm.name in names or arm.parent in names]

    def steps_of(self, arm: Arm) -> int:
        return max(1, round(self.steps * arm.steps_factor))

    def identity(self, arm: Arm):
        """What makes an arm's figures comparable from seed to seed."""
        return {"steps": self.steps_of(arm), "settings": self.settings + arm.settings, "recipe": self.digest}

    def fill(self, text: str) -> str:
        return text.replace("$data", data_folder()).replace("$runs", str(self.runs))


def read(path) -> str:
    """The text of a file of UTF-8, without a byte order mark. A pipe could keep the reader waiting for ever."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise Refused(f"cannot read {path}: it is not a file", INPUT_OUTPUT)
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        words = f"it is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}"
        raise Refused(f"cannot read {path}: {words}; save it as UTF-8", BAD_DATA) from None
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}", INPUT_OUTPUT) from None


def seeds(text: str, name: str):
    """1-5,8 as a list."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,15})(?:\s*-\s*([0-9]{1,15}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise Refused(f"{name}: expected numbers and ranges such as 1-5,8, found {text}")
        if len(found) + last - first >= MOST_SEEDS:
            raise Refused(f"{name}: expected at most {MOST_SEEDS} seeds, found {text}")
        found += range(first, last + 1)
    if len(set(found)) < len(found):
        raise Refused(f"{name}: a seed comes twice in {text}")
    return found


def recipe_digest(path) -> str:
    """SHA-256 of a run file and its bases without comments, shortened."""
    digest, path, seen = hashlib.sha256(), Path(path), []
    while path and path.resolve() not in seen:
        seen.append(path.resolve())
        lines = [line for line in map(plain_yaml.without_comment, read(path).splitlines()) if line]
        digest.update("\n".join(lines).encode())
        base = next((line.partition(":")[2].strip() for line in lines if line.startswith("base:")), None)
        path = path.parent / plain_yaml.scalar(base) if base else None
    return digest.hexdigest()[:16]
