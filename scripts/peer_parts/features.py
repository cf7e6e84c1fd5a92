"""Compares the features of models in Kinship with those of open_clip; for scripts/parity, whose head says how.

    features.py FOLDER VOCABULARY COUNT RANKS WEIGHTS MODEL…     WEIGHTS is empty for random ones
"""
import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy
import open_clip
import torch
from PIL import Image

# Behind the program's own folder, which comes first.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))
from command_line.program import execute, oversubscribed

work, vocabulary, count, ranks, weights, *models = sys.argv[1:]
count, ranks = int(count), int(ranks)
limit = 1e-4


def kinship(*arguments):
    done = execute([*oversubscribed(os.environ["KINSHIP"], ranks), *arguments], stdout=subprocess.PIPE,
                   stderr=subprocess.PIPE, encoding="utf-8", errors="replace")
    if done.returncode != 0:
        sys.exit(f"parity: {' '.join(done.args)} ended with {done.returncode}:\n{done.stderr}")


# Images with structure at every scale, of many shapes; captions of one word to more than the context.
random = numpy.random.default_rng(0)
paths, captions = [], []
words = "a photo of the small red old cat dog house tree on in under, near! two 3 ten".split()
for index in range(count):
    height, width = (int(n) for n in random.integers(180, 420, 2))
    noise = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=numpy.uint8)).resize((width, height), Image.BICUBIC)
    fine = random.integers(-30, 31, (height, width, 3))
    path = os.path.join(work, f"{index}.png")
    Image.fromarray(numpy.clip(numpy.asarray(noise) + fine, 0, 255).astype(numpy.uint8)).save(path)
    paths.append(path)
    length = [1, 8, 20, 120][index % 4]
    captions.append(" ".join(random.choice(words, length)))
with open(os.path.join(work, "table.csv"), "w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["filepath", "title"])
    table.writerows((os.path.basename(path), caption) for path, caption in zip(paths, captions))
with open(os.path.join(work, "captions.txt"), "w", encoding="utf-8") as file:
    file.write("\n".join(captions) + "\n")
dataset = os.path.join(work, "corpus")
kinship("dataset", "import", os.path.join(work, "table.csv"), "--output", dataset)


def draw(model):
    """Numbers for all that starts as nought or one, so that no part of a model is passed over."""
    generator = torch.Generator().manual_seed(1)
    for name, value in model.state_dict().items():
        if name.endswith(("bn1.weight", "bn2.weight", "bn3.weight", "running_var", "downsample.1.weight")):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point() and (name.endswith(("bias", "running_mean")) or "ln_" in name):
            value.add_(torch.randn(value.shape, generator=generator) * 0.05)


def error(ours, theirs):
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float((numpy.abs(ours - theirs).max(1) / numpy.abs(theirs).max(1)).max())


rows = []
for name in models:
    torch.manual_seed(0)
    model, _, prepare = open_clip.create_model_and_transforms(name, pretrained=weights or None)
    model = model.eval().float()
    source = weights
    if not weights:
        draw(model)
        source = os.path.join(work, f"{name}.pt")
        torch.save({"epoch": 1, "name": name,
                    "state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, source)
    with torch.no_grad():
        start = time.time()
        image = torch.cat([model.encode_image(prepare(Image.open(path))[None]) for path in paths]).numpy()
        text = model.encode_text(open_clip.get_tokenizer(name)(captions)).numpy()
        theirs = time.time() - start
    del model
    folder, output = os.path.join(work, name), os.path.join(work, f"{name}.h5")
    kinship("weights", "import", source, "--preset", name, "--output", folder)
    start = time.time()
    kinship("embed", "--checkpoint", os.path.join(folder, "open_clip_model.safetensors"), "--vocabulary", vocabulary,
            "--dataset", dataset, "--captions", os.path.join(work, "captions.txt"), "--raw", "--output", output)
    with h5py.File(output) as file:
        rows.append((name, error(file["image"][:], image), error(file["text"][:], text), time.time() - start, theirs))
    if not weights:
        os.remove(source)

print(f"{'model':22}{'pictures':>10}{'captions':>10}{'Kinship, s':>12}{'open_clip, s':>14}")
for name, image, text, ours, theirs in rows:
    print(f"{name:22}{image:10.1e}{text:10.1e}{ours:12.1f}{theirs:14.1f}")
worst = max(max(row[1:3]) for row in rows)
print(f"largest relative error of {count} images and {count} captions: {worst:.1e} (limit {limit:.0e})")
sys.exit(0 if worst <= limit else 1)
