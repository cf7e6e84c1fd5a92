"""Measures the retrieval of an exported model in open_clip and in transformers, beside Kinship's figures; for
scripts/check-export, whose head says how.

    exported_retrieval.py FOLDER TABLE

FOLDER has the exported model, and what kinship evaluate has found in figures.json.
"""
import csv
import json
import os
import sys

import open_clip
import torch
import transformers
from PIL import Image

work, table = sys.argv[1:]
folder = os.path.join(work, "model")
with open(os.path.join(folder, "open_clip_config.json"), encoding="utf-8") as file:
    note = json.load(file).get("note")
if note:
    sys.exit(f"check-export: open_clip cannot build the model: {note}")
with open(table, newline="", encoding="utf-8-sig") as file:
    pairs = [(os.path.join(os.path.dirname(table), row["filepath"]), row["title"]) for row in csv.DictReader(file)]
with open(os.path.join(work, "figures.json"), encoding="utf-8") as file:
    figures = json.load(file)
if figures["pictures"] != len(pairs):
    sys.exit(f"check-export: {figures['pictures']} of {len(pairs)} images were imported; leave the others out")


def embed(images, texts):
    """Unit rows of images and captions, in blocks."""
    rows = []
    for encode, items in ((images, [pair[0] for pair in pairs]), (texts, [pair[1] for pair in pairs])):
        with torch.no_grad():
            blocks = [encode(items[at:at + 64]) for at in range(0, len(items), 64)]
        rows.append(torch.nn.functional.normalize(torch.cat(blocks), dim=-1))
    return rows


def recall(images, texts):
    """Counts as kinship evaluate does: of equal scores, as two emoji of one name have, the first candidate is ahead."""
    scores = images @ texts.T
    before = torch.ones(len(scores), len(scores), dtype=torch.bool).tril(-1)
    found = {}
    for name, rows in (("image_to_text", scores), ("text_to_image", scores.T)):
        own = rows.diagonal()[:, None]
        ranks = ((rows > own) | (rows == own) & before).sum(1)
        found.update({(name, k): float((ranks < k).float().mean()) for k in (1, 5, 10)})
    return found


def opened(paths):
    return [Image.open(path).convert("RGB") for path in paths]


def in_open_clip():
    model, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    model = model.eval().float()
    return embed(lambda paths: model.encode_image(torch.stack([prepare(image) for image in opened(paths)])),
                 lambda texts: model.encode_text(tokenize(texts)))


def in_transformers():
    model = transformers.CLIPModel.from_pretrained(folder).eval().float()
    processor = transformers.CLIPProcessor.from_pretrained(folder)
    # Since version 5 the class without the ending resizes with torchvision; before, with PIL.
    kind = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    prepare = kind.from_pretrained(folder)

    def rows(output):
        # Since version 5 the rows are a field of what is returned.
        return output if torch.is_tensor(output) else output.pooler_output

    return embed(lambda paths: rows(model.get_image_features(prepare(opened(paths), return_tensors="pt").pixel_values)),
                 lambda texts: rows(model.get_text_features(
                     **processor(text=texts, return_tensors="pt", padding=True, truncation=True))))


programs = {"open_clip": in_open_clip}
if os.path.exists(os.path.join(folder, "config.json")):
    programs["transformers"] = in_transformers
found = {name: recall(*program()) for name, program in programs.items()}
print(f"{'':20}{'Kinship':>12}" + "".join(f"{name:>14}" for name in found))
worst = 0.0
for direction in ("image_to_text", "text_to_image"):
    for k in (1, 5, 10):
        ours = figures[direction][f"R@{k}"]
        theirs = [figure[direction, k] for figure in found.values()]
        worst = max([worst] + [100 * abs(value - ours) for value in theirs])
        print(f"{direction + f' R@{k}':20}{100 * ours:12.2f}" + "".join(f"{100 * value:14.2f}" for value in theirs))
print(f"largest difference over {len(pairs)} images: {worst:.2f} points (limit 0.1)")
sys.exit(0 if worst <= 0.1 + 1e-9 else 1)
