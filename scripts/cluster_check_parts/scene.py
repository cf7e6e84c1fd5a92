"""What the runs read: drawings that are made here, and what the program makes of them."""
import random
from pathlib import Path

from command_line.files import png
from cluster import RECIPE, Runner

DRAWINGS, SIDE = 256, 24
COLOURS, SHAPES = ("red", "green", "blue", "grey"), ("square", "bar", "stripe", "field")
# Smaller than the student, and of another width.
TEACHER = (
    "model={embed_dim: 48, vision_cfg: {image_size: 16, patch_size: 8, width: 64, layers: 2, head_width: 32}, "
    "text_cfg: {context_length: 16, vocab_size: 0, width: 64, heads: 2, layers: 2}}")


def make(runner: Runner):
    folder = runner.folder
    (folder / "pictures").mkdir()
    rows = ["filepath\ttitle", *(draw(folder, index) for index in range(DRAWINGS))]
    (folder / "table.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    runner.alone("dataset", "import", "table.tsv", "--output", "drawings")
    runner.alone("vocabulary", "train", "drawings", "--merges", "300", "--output", "vocabulary.txt.gz")
    values = ("name=teacher", "steps=20", "objective=clip", "teacher=none", TEACHER, "checkpoint.every=none")
    runner.alone("train", str(RECIPE), *runner.settings(*values))
    runner.alone("precompute", str(RECIPE), *runner.settings())


def draw(folder: Path, index: int) -> str:
    """Draws a picture, and returns its line of the table."""
    chance = random.Random(index)
    shape, colour, lower, upper = (
        chance.randrange(count) for count in (len(SHAPES), len(COLOURS), SIDE // 2, SIDE // 3))
    pixels = bytearray(chance.randbytes(3 * SIDE * SIDE))
    for y in range(SIDE):
        for x in range(SIDE):
            if (x > lower and y > upper, y > lower, (x + upper) // 4 % 2 == 0, x * lower > y * upper)[shape]:
                for channel in range(3) if colour == 3 else (colour,):
                    pixels[3 * (y * SIDE + x) + channel] |= 0xC0
    name = f"pictures/{index}.png"
    (folder / name).write_bytes(png(SIDE, bytes(pixels)))
    return f"{name}\ta {COLOURS[colour]} {SHAPES[shape]} from {lower} to {upper}, drawing {index}"
