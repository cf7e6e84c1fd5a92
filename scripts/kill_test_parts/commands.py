"""The commands under test: their words, and how what they leave is judged. Each is started in a folder of its own, with
the same words, so that equal jobs leave equal bytes."""
import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

RUN = "runs/run"
# The parts of the log's lines that do not depend on time.
FIGURES = ("loss", "terms", "rate", "logit_scale", "gradient_norm", "figures")


@dataclass
class Command:
    name: str
    words: list
    # Patterns of the files that it leaves. A file of such a name is whole whenever it is there.
    outputs: list
    # Names of files among them that have other contents until the command is done.
    changing: list = field(default_factory=list)
    # Whether it refuses to replace what it has written; then it is not started again once that is complete.
    once: bool = False
    # Whether one process does all of its work.
    alone: bool = False
    # Whether a signal to stop makes it save and end with 75.
    saves: bool = False
    # How often it is chosen, compared with others.
    share: int = 1

    def prepare(self, folder: Path):
        folder.mkdir()

    def left(self, folder: Path):
        """Returns what the command has left by its names: digests, or figures. Hidden files are locks."""
        files = [file for pattern in self.outputs for file in folder.glob(pattern) if file.is_file()]
        return {str(file.relative_to(folder)): digest(file) for file in files if not file.name.startswith(".")}

    def damaged(self, folder: Path, whole):
        """Returns what is wrong with the files of a job that was disturbed, whose complete files would be `whole`."""
        return [
            f"{name} is damaged" for name, found in self.left(folder).items()
            if found != whole.get(name) and Path(name).name not in self.changing and not name.endswith(".partial")]

    def unsaved(self, folder: Path):
        """Returns what a job that ended with 75 should have saved and has not."""
        return []


class Training(Command):
    def left(self, folder: Path):
        return super().left(folder) | log(folder)[0]

    def damaged(self, folder: Path, whole):
        # The latest checkpoint is another one at the end.
        found = {name: value for name, value in self.left(folder).items() if "/checkpoints/" not in name}
        problems = [f"{name} is damaged" for name, value in found.items() if value != whole.get(name)]
        if log(folder)[1] > 1:
            problems.append("log.jsonl has several broken lines")
        checkpoints = folder / RUN / "checkpoints"
        latest = checkpoints / "latest"
        for checkpoint in sorted(checkpoints.glob("step-????????")):
            # The manifest is removed first: a folder without it is no checkpoint any more.
            if (checkpoint / "manifest.json").exists():
                problems += checkpoint_problems(checkpoint)
        replaced = latest.is_symlink() and checkpoints.joinpath(f"{latest.readlink()}.replaced").exists()
        if latest.is_symlink() and not replaced and not (latest / "manifest.json").exists():
            problems.append(f"checkpoints/latest points to {latest.readlink()}, which is no checkpoint")
        return problems

    def unsaved(self, folder: Path):
        manifest = folder / RUN / "checkpoints/latest/manifest.json"
        saved = json.loads(manifest.read_bytes())["record"]["step"] if manifest.exists() else 0
        done = max((int(name.split()[1]) for name in log(folder)[0] if name.startswith("step ")), default=0)
        return [] if saved == done else [f"ended with 75 after step {done}, of which {saved} are saved"]


@dataclass
class Import(Command):
    # The folder of the dataset that is replaced.
    old: Path = Path()

    def prepare(self, folder: Path):
        shutil.copytree(self.old, folder)

    def left(self, folder: Path):
        """Returns the index and the shards that it names. Their names depend on the dataset that they replace."""
        try:
            index = json.loads((folder / "data/corpus.json").read_bytes())
            shards = [folder / "data" / shard.pop("file") for shard in index["shards"]]
        except (OSError, ValueError, KeyError):
            return {}
        digests = {f"shard {number} of data": shard.exists() and digest(shard) for number, shard in enumerate(shards)}
        return {"data/corpus.json": index} | digests

    def damaged(self, folder: Path, whole):
        found = self.left(folder)
        return [] if found in (whole, self.left(self.old)) else ["data is neither the old dataset nor the new one"]


def commands(scene: Path):
    """Returns the commands by their names. They read what is in the folder `scene`."""
    model, run, dataset = f"{scene}/runs/model", f"{scene}/run.yaml", f"{scene}/dataset"
    teacher = f'teacher={{model: "{model}", cache: {{path: cache, part: 12}}}}'
    found = [
        Training(
            "train", ["train", run, "--resume", "auto"],
            [f"{RUN}/run.yaml", f"{RUN}/*.safetensors", f"{RUN}/open_clip_config.json", f"{RUN}/ema/*",
             f"{RUN}/checkpoints/latest/*"], saves=True, share=3),
        Command(
            "precompute", ["precompute", run, *sets("objective=intra", "data.views=4", teacher)], ["cache/*/*"],
            changing=["cache.json"], saves=True, share=2),
        Command(
            "evaluate",
            ["evaluate", "retrieval", "--checkpoint", model, "--dataset", dataset, "--json", "figures.json"],
            ["figures.json"]),
        Command(
            "embed",
            ["embed", "--checkpoint", model, "--images", f"{scene}/pictures", "--captions", f"{scene}/captions.txt",
             "--output", "embeddings.h5"], ["embeddings.h5"], once=True),
        Command(
            "merge", ["merge", model, "--optimizer", "--output", "merged.safetensors"], ["merged.safetensors"],
            once=True),
        Command("reshard", ["merge", model, "--reshard", "5", "--output", "resharded"], ["resharded/*"], once=True),
        Command(
            "vocabulary", ["vocabulary", "train", dataset, "--merges", "60", "--output", "words.txt.gz"],
            ["words.txt.gz"]),
        Import(
            "import",
            ["dataset", "import", f"{scene}/table.tsv", "--label-column", "kind", "--shard-samples", "16", "--output",
             "data", "--overwrite"], [], alone=True, old=scene / "old"),
    ]
    return {command.name: command for command in found}


def sets(*values):
    return [word for value in values for word in ("--set", value)]


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def log(folder: Path):
    """Returns the figures of a run's log, of which later lines count, and how many lines are broken."""
    file, found, broken = folder / RUN / "log.jsonl", {}, 0
    for line in file.read_text("utf-8", "replace").splitlines() if file.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            broken += 1
            continue
        if entry["event"] in ("step", "evaluation"):
            name = f"{entry['event']} {entry['step']} {entry.get('evaluation', '')}".strip()
            found[f"{name} in log.jsonl"] = {key: entry[key] for key in FIGURES if key in entry}
    return found, broken


def checkpoint_problems(checkpoint: Path):
    manifest, sums = checkpoint / "manifest.json", checkpoint / "manifest.sha256"
    if not sums.exists() or sums.read_text("utf-8").split()[:1] != [digest(manifest)]:
        return [f"manifest.json of {checkpoint.name} is damaged"]
    return [
        f"{part['file']} of {checkpoint.name} is damaged" for part in json.loads(manifest.read_bytes())["parts"]
        if not (checkpoint / part["file"]).exists() or digest(checkpoint / part["file"]) != part["sha256"]]
