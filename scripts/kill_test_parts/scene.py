"""What the commands under test read: pictures that are drawn here, and what the program itself makes of them."""
import random
import subprocess
from pathlib import Path

from command_line.files import png
from command_line.program import execute, oversubscribed
from command_line.refused import INTERNAL, Refused
from commands import RUN, sets

# Small, but saved often and with everything that a checkpoint can hold.
RUN_FILE = """\
name: {name}
output: runs
seed: 3
steps: 60
model:
  embed_dim: 16
  vision_cfg: {{image_size: 16, patch_size: 8, width: 32, layers: 2, head_width: 16}}
  text_cfg: {{context_length: 8, vocab_size: 0, width: 32, heads: 2, layers: 2}}
data: {{datasets: ["{folder}/dataset"], workers: 1}}
vocabulary: "{folder}/vocabulary.txt.gz"
image: {{scale: [0.5, 1.0]}}
batch: {{global: 7}}
optimizer: {{learning_rate: 5e-4, warmup: 2}}
ema: 0.9
log: {{every: 1, tensorboard: false}}
checkpoint: {{every: 5}}
evaluate: {{every: 25, evaluations: [{{kind: retrieval, dataset: "{folder}/dataset"}}]}}
watchdog: {{deadline: {deadline}}}
"""
# The model that the other commands read; large enough that they have something to do.
MODEL = (
    "model={embed_dim: 64, vision_cfg: {image_size: 32, patch_size: 8, width: 128, layers: 4, head_width: 64}, "
    "text_cfg: {context_length: 16, vocab_size: 0, width: 128, heads: 2, layers: 4}}")
PICTURES, COLOURS, SHAPES = 192, ("red", "green", "blue"), ("square", "bar", "stripe", "field")


def make(folder: Path, program: str, deadline: float):
    """Makes the folder with everything that the commands read."""
    (folder / "pictures").mkdir(parents=True)
    rows = [draw(folder, index) for index in range(PICTURES)]
    for name, count in (("table", PICTURES), ("old", PICTURES // 2)):
        lines = ["filepath\ttitle\tkind", *("\t".join(row) for row in rows[:count])]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "captions.txt").write_text("".join(f"{caption}\n" for _, caption, _ in rows), "utf-8")
    (folder / "run.yaml").write_text(
        RUN_FILE.format(name=Path(RUN).name, folder=folder, deadline=deadline), "utf-8")
    for ranks, words in (
        (1, ["dataset", "import", "table.tsv", "--output", "dataset", "--label-column", "kind"]),
        # A dataset has the name of its folder, so this one has that of the one which replaces it.
        (1, ["dataset", "import", "old.tsv", "--output", "old/data", "--label-column", "kind"]),
        (1, ["vocabulary", "train", "dataset", "--merges", "40", "--output", "vocabulary.txt.gz"]),
        (2, ["train", "run.yaml", *sets("name=model", "steps=2", "checkpoint.every=none", MODEL)]),
    ):
        made = execute(
            [*oversubscribed(program, ranks), *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
        if made.returncode != 0:
            raise Refused(f"{program} {words[0]} ended with {made.returncode}: {made.stdout.strip()}", INTERNAL)


def draw(folder: Path, index: int):
    """Draws a picture, and returns its row of the table."""
    chance = random.Random(index)
    side, kind, colour = chance.randrange(24, 41), chance.randrange(len(SHAPES)), chance.randrange(len(COLOURS))
    pixels = bytearray(chance.randbytes(3 * side * side))
    for y in range(side):
        for x in range(side):
            if (6 < x < 18 and 6 < y < 18, 6 < y < 18, x // 4 % 2 == 0, True)[kind]:
                pixels[3 * (y * side + x) + colour] |= 0xC0
    name = f"pictures/{index}.png"
    (folder / name).write_bytes(png(side, bytes(pixels)))
    return name, f"a {COLOURS[colour]} {SHAPES[kind]}, number {index}", SHAPES[kind]
