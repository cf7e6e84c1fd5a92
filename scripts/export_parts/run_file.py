"""What a run's folder says of it: its evaluations, its vocabulary and its teachers."""
import os
import re
from pathlib import Path

from command_line.refused import BAD_DATA, INPUT_OUTPUT, Refused
from plain_yaml import parse

# Names of files of weights that say nothing; the folder's name does.
USUAL = {"open_clip_model.safetensors", "model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin"}


class Evaluation:
    """An evaluation of a run file: retrieval or zero-shot."""

    def __init__(self, keys: dict):
        self.kind, self.dataset = keys.get("kind", ""), keys.get("dataset", keys.get("corpus", ""))
        self.classes, self.templates, self.subset = (keys.get(key) for key in ("classes", "templates", "subset"))
        self.captions, self.duplicates = keys.get("captions", "all"), keys.get("duplicates", "hits")

    def options(self):
        """The words of `kinship evaluate` that evaluate a model as the run does."""
        words = [self.kind, "--dataset", self.dataset]
        if self.kind == "zero-shot":
            for key in ("classes", "templates", "subset"):
                if value := getattr(self, key):
                    words += [f"--{key}", value]
            return words
        candidates = "distinct-captions" if self.duplicates == "hits" else "captions"
        return [*words, "--captions", self.captions, "--duplicates", self.duplicates, "--candidates", candidates]


class Teacher:
    """A teacher of a run file whose weights are known."""

    def __init__(self, keys: dict, vocabulary: str):
        self.model = keys.get("model", "")
        self.preset, self.config = (optional(keys, key) for key in ("preset", "config"))
        self.own_vocabulary, self.run_vocabulary = optional(keys, "vocabulary"), vocabulary
        image = keys.get("image") or {}
        self.alpha = optional(image, "alpha", "own")
        # kinship evaluate takes the mean and the deviation from the teacher's files, and the run had others.
        self.is_prepared_otherwise = any(optional(image, key, "own") for key in ("mean", "std"))

    @property
    def name(self) -> str:
        path = Path(os.path.normpath(self.model))
        return path.parent.name if path.name in USUAL else path.name

    @property
    def is_checkpoint(self) -> bool:
        folder = Path(self.model)
        latest = folder / "checkpoints" / "latest"
        return folder.is_dir() and ((latest if latest.exists() else folder) / "manifest.json").exists()

    def export_options(self):
        """The words that say the model's sizes, and where its vocabulary is, to `kinship weights export`."""
        vocabulary = ["--vocabulary", self.own_vocabulary] if self.own_vocabulary else []
        return self.sizes("--preset", "--config") + vocabulary

    def evaluate_options(self):
        """The words that name the model to `kinship evaluate`."""
        vocabulary = self.own_vocabulary or (None if self.is_checkpoint else self.run_vocabulary)
        return ["--checkpoint", self.model, *self.sizes("--model", "--model"),
                *(["--vocabulary", vocabulary] if vocabulary else []), *(["--alpha", self.alpha] if self.alpha else [])]

    def sizes(self, preset: str, config: str):
        if self.is_checkpoint or not (self.preset or self.config):
            return []
        return [preset, self.preset] if self.preset else [config, self.config]


def optional(keys: dict, key: str, none: str = "none"):
    value = keys.get(key)
    return None if value in (None, "", none) else value


class Run:
    def __init__(self, folder: str):
        self.folder = Path(folder)
        file = self.folder / "run.yaml"
        for needed in (file, self.folder / "log.jsonl"):
            if not needed.is_file():
                raise Refused(f"{folder} is no run's folder: it has no {needed.name}; name one that kinship train made",
                              INPUT_OUTPUT)
        try:
            keys = parse(file.read_text("utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"cannot read {file}: {error}", INPUT_OUTPUT) from None
        if not isinstance(keys, dict):
            raise Refused(f"{file}: expected a section", BAD_DATA)
        self.name, self.vocabulary = keys.get("name", self.folder.name), keys.get("vocabulary", "")
        evaluations = section(keys, "evaluate").get("evaluations") or []
        self.evaluations = [
            evaluation for one in evaluations if isinstance(one, dict)
            if (evaluation := Evaluation(one)).kind in ("retrieval", "zero-shot")]
        teacher = keys.get("teacher")
        teacher = {} if teacher in (None, "", "none") else {"model": teacher} if isinstance(teacher, str) else teacher
        members = teacher.get("ensemble") or []
        self.teachers = [
            Teacher(one, self.vocabulary) for one in [teacher, *members] if isinstance(one, dict) and one.get("model")]

    @property
    def step(self):
        """The steps of the latest checkpoint."""
        found = re.fullmatch("step-([0-9]+)", (self.folder / "checkpoints" / "latest").resolve().name)
        return int(found[1]) if found else None


def section(keys: dict, key: str) -> dict:
    value = keys.get(key)
    return value if isinstance(value, dict) else {}
