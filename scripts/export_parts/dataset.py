"""Reads a dataset that kinship dataset import has written, sample by sample."""
import json
import os
from pathlib import Path

import h5py


class Dataset:
    def __init__(self, path: str):
        index = Path(path) / "corpus.json" if os.path.isdir(path) else Path(path)
        self.folder, self.index = index.parent, json.loads(index.read_text("utf-8"))
        self.name, self.labels = self.index["name"], self.index["labels"]

    @property
    def count(self) -> int:
        return self.index["totals"]["samples"]

    def samples(self):
        """Yields each sample's image as its file's bytes, its captions, and its label, None where it has none."""
        for shard in self.index["shards"]:
            with h5py.File(self.folder / shard["file"]) as file:
                images, captions = Texts(file["images"]), Texts(file["captions"])
                first = file["captions/first"][:]
                labels = file["labels"][:] if "labels" in file else None
                for at in range(shard["samples"]):
                    label = None if labels is None or labels[at] < 0 else int(labels[at])
                    own = [captions[number].decode("utf-8") for number in range(int(first[at]), int(first[at + 1]))]
                    yield images[at], own, label


class Texts:
    """Byte strings that lie end to end."""

    def __init__(self, group):
        self.bytes, self.offsets = group["bytes"], group["offsets"][:]

    def __getitem__(self, number: int) -> bytes:
        return self.bytes[int(self.offsets[number]):int(self.offsets[number + 1])].tobytes()


def lines(path: str):
    """The lines of a file of class names or templates, as kinship evaluate reads them."""
    found = [line.strip() for line in Path(path).read_text("utf-8-sig").splitlines()]
    while found and not found[-1]:
        found.pop()
    return found


class Classes:
    """The classes of a zero-shot evaluation, among which a model chooses, and the sentences that name them."""

    def __init__(self, dataset: Dataset, evaluation: dict, labels):
        names = lines(evaluation["classes"]) if evaluation.get("classes") else dataset.labels
        subset = evaluation.get("subset")
        if subset == "present":
            chosen = sorted({label for label in labels if label is not None and label < len(names)})
        else:
            wanted = set(lines(subset)) if subset else set(names)
            chosen = [number for number, name in enumerate(names) if name in wanted]
        self.names = [names[number] for number in chosen]
        # The place of a label among the chosen classes.
        self.place = {label: place for place, label in enumerate(chosen)}
        self.templates = lines(evaluation["templates"]) if evaluation.get("templates") else ["{}"]

    def sentences(self, name: str):
        return [template.replace("{}", name) for template in self.templates]
