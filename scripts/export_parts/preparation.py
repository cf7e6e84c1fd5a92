"""Prepares images and captions as the files of an exported folder say, with Pillow and tokenizers."""
import io
import json
from pathlib import Path

import numpy
from PIL import Image, ImageOps


def opened(data: bytes, alpha: str, exif: str):
    """The image in RGB: transparent pixels on white or with the colours below them, upright if the model's training has
    turned images."""
    image = Image.open(io.BytesIO(data))
    if exif == "apply":
        image = ImageOps.exif_transpose(image)
    if alpha == "white" and (image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        white.alpha_composite(image)
        image = white
    return image.convert("RGB")


class Images:
    """preprocessor_config.json as a function of an image's bytes, [3, side, side]."""

    def __init__(self, folder: Path):
        file = folder / "preprocessor_config.json"
        if not file.exists():
            raise SystemExit(f"onnx_form: there is no {file}, because the export cannot describe how the model's images are "
                             "prepared (resize_mode: longest); leave its figures out with --no-accuracy")
        keys = json.loads(file.read_text("utf-8"))
        self.alpha, self.exif = keys.get("alpha", "drop"), keys.get("exif", "ignore")
        self.shortest, self.side = keys["size"].get("shortest_edge"), keys["crop_size"]["height"]
        self.filter = Image.Resampling(keys["resample"])
        self.mean, self.std = (numpy.array(keys[name], numpy.float32) for name in ("image_mean", "image_std"))

    def __call__(self, data: bytes):
        image = opened(data, self.alpha, self.exif)
        if self.shortest:
            short, long = sorted(image.size)
            longer = int(self.shortest * long / short)
            upright = image.size[0] <= image.size[1]
            image = image.resize((self.shortest, longer) if upright else (longer, self.shortest), self.filter)
            # The place is rounded to even, as open_clip and Kinship round it.
            left, top = (int(round((size - self.side) / 2)) for size in image.size)
            image = image.crop((left, top, left + self.side, top + self.side))
        else:
            image = image.resize((self.side, self.side), self.filter)
        pixels = numpy.asarray(image, numpy.float32) / 255
        return ((pixels - self.mean) / self.std).transpose(2, 0, 1)


class Captions:
    """tokenizer.json as a function of captions: rows of ids, filled up with zeros to the context, or to the longest of
    them where that is None."""

    def __init__(self, folder: Path, context):
        from tokenizers import Tokenizer
        self.cut, self.whole = (Tokenizer.from_file(str(folder / "tokenizer.json")) for _ in range(2))
        self.whole.no_truncation()
        self.context = context

    def __call__(self, texts):
        ids = [encoding.ids for encoding in self.cut.encode_batch(texts)]
        rows = numpy.zeros((len(ids), self.context or max(map(len, ids))), numpy.int64)
        for row, own in zip(rows, ids):
            row[:len(own)] = own
        return rows

    def numbers(self, texts):
        """The number of each caption's text: equal if they differ in nothing that a model could see."""
        known = {}
        return [known.setdefault(tuple(encoding.ids), len(known)) for encoding in self.whole.encode_batch(texts)]
