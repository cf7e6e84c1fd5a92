"""Writes a dataset as a webdataset in the layout that CLIP_benchmark reads:

    dataset_type.txt                         "retrieval"; absent for classification
    classnames.txt                           a class a line, in the order of the labels
    zeroshot_classification_templates.txt    a template a line, with {c} in place of the class
    test/nshards.txt                         the number of tars
    test/0.tar                               each sample's image, and .txt with a caption a line or .cls with a label
"""
import hashlib
import io
import tarfile
from pathlib import Path

from command_line.refused import BAD_DATA, Refused
from dataset import Classes, Dataset
from PIL import Image
from preparation import opened

ENDINGS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
ORIENTATION = 0x0112


class Folder:
    """`preparation` is open_clip's preprocess_cfg, and `tokenize` turns captions into rows of token ids."""

    def __init__(self, path: Path, evaluation, preparation: dict, tokenize):
        self.path, self.kind, self.tar = path, evaluation.kind, path / "test" / "0.tar"
        self.alpha, self.exif = preparation.get("alpha", "drop"), preparation.get("exif", "ignore")
        self.tar.parent.mkdir(parents=True)
        dataset = Dataset(evaluation.dataset)
        self.count, self.captions, self.flattened = 0, 0, 0
        with tarfile.open(self.tar, "w") as tar:
            if self.kind == "retrieval":
                self.write_captions(tar, dataset, evaluation, tokenize)
            else:
                self.write_labels(tar, dataset, evaluation)
        if not self.count:
            raise Refused(f"{evaluation.dataset} has no image to evaluate", BAD_DATA)
        (path / "test" / "nshards.txt").write_text("1\n", "utf-8")
        left = dataset.count - self.count
        self.summary = (f"{self.count} images" + (f", {self.captions} captions" if self.captions else "")
                        + (f"; left out {left} of {dataset.count}" if left else "")
                        + (f"; {self.flattened} laid on white or turned upright" if self.flattened else ""))

    def write_captions(self, tar, dataset: Dataset, evaluation, tokenize):
        (self.path / "dataset_type.txt").write_text("retrieval\n", "utf-8")
        seen = set()
        for image, captions, _ in dataset.samples():
            # A caption is a line of a text file; no tokenizer tells one kind of space from another.
            lines = [line for caption in captions if (line := " ".join(caption.split()))]
            lines = lines[:1] if evaluation.captions == "first" else lines
            if not lines:
                continue
            image, ending = self.flat(image)
            own = {hashlib.sha256(image).digest(), *(tuple(row) for row in tokenize(lines).tolist())}
            if own & seen:
                continue
            seen |= own
            self.captions += len(lines)
            self.add(tar, {ending: image, "txt": "\n".join(lines).encode()})
        self.ranks = [k for k in (1, 5, 10) if k <= min(self.count, self.captions)]

    def write_labels(self, tar, dataset: Dataset, evaluation):
        labels = [label for _, _, label in dataset.samples()]
        classes = Classes(dataset, vars(evaluation), labels)
        self.classes, self.sentences = self.path / "classnames.txt", self.path / "kinship-templates.txt"
        self.classes.write_text("\n".join(classes.names) + "\n", "utf-8")
        self.sentences.write_text("\n".join(classes.templates) + "\n", "utf-8")
        # CLIP_benchmark's templates are Python's formats.
        theirs = [template.replace("{}", "\0").replace("{", "{{").replace("}", "}}").replace("\0", "{c}")
                  for template in classes.templates]
        (self.path / "zeroshot_classification_templates.txt").write_text("\n".join(theirs) + "\n", "utf-8")
        for image, _, label in dataset.samples():
            if label in classes.place:
                image, ending = self.flat(image)
                self.add(tar, {ending: image, "cls": str(classes.place[label]).encode()})
        self.ranks = [1, 5] if len(classes.names) >= 5 else [1]

    def flat(self, data: bytes):
        """The file of an image, and its ending. One is written anew only where the other program would see it otherwise
        than the model's training did."""
        image = Image.open(io.BytesIO(data))
        ending = ENDINGS[image.format]
        is_transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        is_turned = self.exif == "apply" and image.getexif().get(ORIENTATION, 1) != 1
        if not is_turned and not (self.alpha == "white" and is_transparent):
            return data, ending
        self.flattened += 1
        file = io.BytesIO()
        opened(data, self.alpha, self.exif).save(file, "PNG")
        return file.getvalue(), "png"

    def add(self, tar, files: dict):
        for ending, data in files.items():
            entry = tarfile.TarInfo(f"{self.count:07}.{ending}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        self.count += 1
