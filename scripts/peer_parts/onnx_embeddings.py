"""Compares what onnxruntime computes with the embeddings of kinship embed; for scripts/check-onnx, whose head says how.

    onnx_embeddings.py FOLDER ARTICLE

FOLDER has the exported models by their types, and embeddings.jsonl; ARTICLE has the Python example.
"""
import contextlib
import io
import json
import os
import re
import sys

import numpy
import onnx

work, article = sys.argv[1:]
with open(article, encoding="utf-8") as file:
    blocks = re.findall(r"```python\n(.*?)```", file.read(), re.DOTALL)
example = next(block for block in blocks if "onnxruntime" in block)
names, expected = {"image": [], "text": []}, {"image": [], "text": []}
with open(os.path.join(work, "embeddings.jsonl"), encoding="utf-8") as file:
    for line in map(json.loads, file):
        names[line["kind"]].append(line["name"])
        expected[line["kind"]].append(line["embedding"])
expected = {kind: numpy.array(rows, dtype=numpy.float32) for kind, rows in expected.items()}
images, captions = names["image"], names["text"]
if len(images) != len(captions):
    sys.exit(f"check-onnx: {len(images)} images and {len(captions)} captions were embedded")


def recall(image, text):
    """R@1 in percent, both ways; a candidate that is ahead by less than 1e-6 counts as level."""
    scores = image @ text.T
    return [100 * float(((rows > rows.diagonal()[:, None] + 1e-6).sum(1) == 0).mean()) for rows in (scores, scores.T)]


def difference(found):
    return max(float(numpy.abs(found[kind] - expected[kind]).max()) for kind in expected)


def embed(folder, batch):
    """The rows of the example for the first pair, and those of all pairs in batches, by its functions."""
    space = {"__name__": "__main__"}
    sys.argv = ["example.py", folder, images[0], captions[0]]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(example, "example.py", "exec"), space)
    found = {"image": [], "text": []}
    for at in range(0, len(images), batch):
        pixels = numpy.stack([space["prepare"](path) for path in images[at:at + batch]])
        found["image"].append(space["visual"].run(None, {"pixel_values": pixels})[0])
        ids = [space["tokenizer"].encode(caption).ids for caption in captions[at:at + batch]]
        padded = numpy.zeros((len(ids), max(map(len, ids))), dtype=numpy.int64)
        for row, values in zip(padded, ids):
            row[:len(values)] = values
        found["text"].append(space["textual"].run(None, {"input_ids": padded})[0])
    first = {"image": space["image"], "text": space["text"]}
    return first, {kind: numpy.concatenate(parts) for kind, parts in found.items()}, printed.getvalue().strip()


ours = recall(expected["image"], expected["text"])
print(f"{'':8}{'MB':>10}{'difference':>14}{'R@1 i2t':>12}{'R@1 t2i':>12}")
print(f"{'Kinship':8}{'':10}{'':14}{ours[0]:12.2f}{ours[1]:12.2f}")
problems = []
for kind, limit, points in (("fp32", 1e-5, 0.0), ("fp16", 5e-3, None), ("int8", None, 1.0)):
    folder = os.path.join(work, kind)
    files = [name for name in os.listdir(folder) if name.endswith((".onnx", ".onnx.data"))]
    for name in files:
        if name.endswith(".onnx"):
            onnx.checker.check_model(os.path.join(folder, name), full_check=True)
    size = sum(os.path.getsize(os.path.join(folder, name)) for name in files) / 1e6
    # The scale of quantized activations is that of a batch.
    first, found, printed = embed(folder, 1 if kind == "int8" else 32)
    theirs, worst = recall(found["image"], found["text"]), difference(found)
    print(f"{kind:8}{size:10.1f}{worst:14.1e}{theirs[0]:12.2f}{theirs[1]:12.2f}")
    if limit is not None and not worst <= limit:
        problems.append(f"{kind} differs by {worst:.1e}, more than {limit}")
    gap = max(abs(one - other) for one, other in zip(ours, theirs))
    if points is not None and not gap <= points + 1e-9:
        problems.append(f"R@1 of {kind} differs by {gap:.2f} points, more than {points}")
    alone = max(float(numpy.abs(first[which] - expected[which][:1]).max()) for which in first)
    if limit is not None and not alone <= limit:
        problems.append(f"the example's embeddings with {kind} differ by {alone:.1e}, more than {limit}")
    if kind == "fp32":
        print(f"the example with {os.path.basename(images[0])} and “{captions[0]}”: {printed}", file=sys.stderr)
print(f"onnx.checker found no mistake; {len(images)} images and captions")
for problem in problems:
    print(f"check-onnx: {problem}", file=sys.stderr)
sys.exit(1 if problems else 0)
