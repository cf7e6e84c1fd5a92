"""Writes preprocessing.json: open_clip's evaluation transform, by PIL, on small images of odd sizes.

    python make.py            # needs pillow 13 or later and numpy; takes a second

The transform is that of open_clip's src/open_clip/transform.py (image_transform, is_train=False) with torchvision's
Resize, CenterCrop and pad as they treat a PIL image, up to the conversion to numbers, of mean 0 and deviation 1.
Pillow before 13 always resized horizontally first, and gives other values where the height shrinks most.
"""

import base64
import json
import pathlib

import numpy as np
import PIL
from PIL import Image, ImageOps

assert int(PIL.__version__.split(".")[0]) >= 13, "pillow 13 or later is needed, found " + PIL.__version__

SIZES = [(10, 31), (31, 10), (37, 53), (1, 9), (23, 1), (16, 16), (15, 40)]
CASES = [
    ("shortest", "bicubic", None), ("shortest", "bilinear", None), ("longest", "bicubic", None),
    ("longest", "bicubic", [255, 128, 3]), ("longest", "bilinear", 200), ("squash", "bicubic", None),
    ("squash", "bilinear", None), ("squash", "random", None),
]


def image(width, height):
    """Edges and noise, which overshoot where a filter has negative weights."""
    random = np.random.default_rng(width * 1000 + height)
    noise = random.integers(0, 256, (height, width, 3))
    edges = 255 * ((np.indices((height, width)).sum(0) // 3) % 2)[..., None]
    return Image.fromarray(np.where(random.random((height, width, 1)) < 0.5, noise, edges).astype(np.uint8))


def transform(picture, n, mode, interpolation, fill):
    filters = Image.Resampling
    filter = filters.BILINEAR if interpolation == "bilinear" else filters.BICUBIC  # random is bicubic
    w, h = picture.size
    if mode == "squash":
        return picture.resize((n, n), filter)
    if mode == "longest":  # ResizeKeepRatio(longest=1), CenterCropOrPad
        ratio = max(h / n, w / n)
        height, width = max(round(h / ratio), 1), max(round(w / ratio), 1)
        picture = picture.resize((width, height), filter)
        border = ((n - width) // 2, (n - height) // 2, (n - width + 1) // 2, (n - height + 1) // 2)
        return ImageOps.expand(picture, border, tuple(fill) if isinstance(fill, list) else (fill or 0,) * 3)
    short, long = min(w, h), max(w, h)  # Resize(n), CenterCrop(n)
    other = int(n * long / short)
    width, height = (n, other) if w <= h else (other, n)
    left, top = int(round((width - n) / 2.0)), int(round((height - n) / 2.0))
    return picture.resize((width, height), filter).crop((left, top, left + n, top + n))


def text(picture):
    return base64.b64encode(np.asarray(picture).tobytes()).decode()


images = []
for index, (width, height) in enumerate(SIZES):
    picture, n = image(width, height), (16, 15)[index % 2]
    cases = []
    for mode, interpolation, fill in CASES:
        config = {"resize_mode": mode, "interpolation": interpolation, "mean": [0, 0, 0], "std": [1, 1, 1], "size": n}
        if fill is not None:
            config["fill_color"] = fill
        cases.append({"preprocess_cfg": config, "rgb": text(transform(picture, n, mode, interpolation, fill))})
    images.append({"width": width, "height": height, "size": n, "rgb": text(picture), "cases": cases})
result = {"pillow": PIL.__version__, "images": images}
pathlib.Path(__file__).with_name("preprocessing.json").write_text(json.dumps(result, indent=1) + "\n")
