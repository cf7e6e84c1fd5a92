"""The sound files that are changed: drawn and written here, or made of these by the program itself."""
import io
import json
import math
import re
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

from command_line.refused import INTERNAL, Refused
import hdf5
from formats import zipped
from scene import draw

RUN_FILE = """\
# A run of two steps.
name: run
output: runs
seed: 3
steps: 2
model:
  embed_dim: 8
  vision_cfg: {image_size: 8, patch_size: 4, width: 16, layers: 1, head_width: 8}
  text_cfg: {context_length: 8, vocab_size: 0, width: 16, heads: 2, layers: 1}
data: {datasets: ["dataset"], workers: 1, views: 2}
vocabulary: words.txt.gz
image: {scale: [0.5, 1.0], mean: [0.48, 0.46, 0.41], max_pixels: 1000000}
batch: {global: 7, micro: 4}
optimizer: {learning_rate: 5e-4, warmup: 1, weight_decay: 0.2, betas: [0.9, 0.98]}
ema: 0.9
log: {every: 1, tensorboard: false}
checkpoint: {every: 1}
evaluate: {every: 2, evaluations: [{kind: retrieval, dataset: dataset}]}
watchdog: {deadline: 60}
"""
TEACHER = """\
objective: intra
teacher: {model: model, vocabulary: words.txt.gz, cache: {path: cache, part: 5}}
"""
PICTURES = 12
# The figures of one exported form, as scripts/bench export measures them.
EXPORTS = {
    "schema": "kinship/exports/1", "run": "model", "step": 2, "time": "2026-12-01T10:00:00Z", "processor": "one",
    "cores": 2, "image_size": 8, "caption_tokens": 8, "batch": 64, "forms": [{
        "name": "Kinship fp32", "teacher": False, "program": "Kinship", "bytes": 1000, "peak_bytes": 10000,
        "image_ms": {"median": 1.5, "p99": 2.5, "repetitions": 200}, "images_per_s": 500.5,
        "caption_ms": {"median": 0.5, "p99": 0.75, "repetitions": 200}, "captions_per_s": 1000.5,
        "accuracy": {"retrieval dataset": {"i2t R@1": 0.5, "t2i R@1": 0.25}}}]}
FIXTURES = Path(__file__).resolve().parent.parent.parent / "Tests/Fixtures/golden/preprocess/images"


def make(folder: Path, program: str):
    """Makes the folder with all sound files."""
    (folder / "pictures").mkdir(parents=True)
    rows = [draw(folder, index) for index in range(PICTURES)]
    texts(folder, rows)
    sources(folder, rows)
    (folder / "embeddings.npz").write_bytes(embeddings(rows))
    keys = [name.removesuffix(".png") for name, _, _ in rows]
    numbers = ([len(rows), 4], range(1, 4 * len(rows) + 1))
    (folder / "embeddings.h5").write_bytes(
        hdf5.written({"image": numbers, "text": numbers}, {"keys": keys}, {"text_keys": keys}))
    for words in (
        ["dataset", "import", "table.tsv", "--label-column", "kind", "--shard-samples", "7", "--output", "dataset"],
        ["vocabulary", "train", "dataset", "--merges", "20", "--output", "words.txt.gz"],
        ["train", "model.yaml"],
        ["merge", "runs/model", "--output", "merged.safetensors"], ["merge", "runs/model", "--output", "merged.h5"],
        ["weights", "export", "runs/model", "--form", "hugging_face", "--output", "hugging_face"],
        ["weights", "export", "runs/model", "--output", "model"], ["precompute", "run.yaml"], ["doctor", "--json"],
    ):
        made = subprocess.run(
            [program, *words], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            check=False)
        if made.returncode != 0:
            raise Refused(f"{program} {' '.join(words)} ended with {made.returncode}: {made.stderr.strip()}", INTERNAL)
        if words[0] == "doctor":
            (folder / "doctor.json").write_text(made.stdout, "utf-8")
    for name in ("doctor.json", "runs/model/log.jsonl"):
        # What is measured would make other inputs of the same seed each time.
        text = (folder / name).read_text("utf-8").replace(str(folder), "sound")
        (folder / name).write_text(re.sub(r"\d+\.\d+(e-?\d+)?|\d{6,}", "0.5", text), "utf-8")
    write(folder / "runs/model/exports.json", EXPORTS)
    weights(folder)


def texts(folder: Path, rows):
    """Writes run file, tables and lists."""
    (folder / "run.yaml").write_text(RUN_FILE + TEACHER, "utf-8")
    (folder / "model.yaml").write_text(RUN_FILE.replace("name: run", "name: model"), "utf-8")
    lines = ["filepath\ttitle\tkind", *("\t".join(row) for row in rows)]
    (folder / "table.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    quoted = [f'"{name}","a ""{kind}"", or\n{caption}"' for name, caption, kind in rows[:4]]
    (folder / "table.csv").write_text("\r\n".join(["filepath,title", *quoted]) + "\r\n", "utf-8")
    scores = ["key\tsimilarity", *(f"{name.removesuffix('.png')}\t{at / 10}" for at, (name, _, _) in enumerate(rows))]
    (folder / "scores.tsv").write_text("\n".join(scores) + "\n", "utf-8")
    (folder / "captions.txt").write_text("".join(f"{caption}\n" for _, caption, _ in rows), "utf-8")
    (folder / "list.txt").write_text("".join(f"{name}\n" for name, _, _ in rows[:4]), "utf-8")
    (folder / "classes.txt").write_text("bar\nfield\nsquare\nstripe\n", "utf-8")
    (folder / "templates.txt").write_text("a {}\na photo of a {}.\n", "utf-8")
    (folder / "results.token").write_text(
        "".join(f"{Path(name).name}#{n}\t{caption} ☺\n" for name, caption, _ in rows[:4] for n in range(2)), "utf-8")
    names = [Path(name).name for name, _, _ in rows[:4]]
    write(folder / "coco.json", {
        "info": {"year": 2017}, "images": [{"file_name": name, "id": 7 * at} for at, name in enumerate(names)],
        "annotations": [{"image_id": 7 * at, "id": at, "caption": f"café {at}"} for at in range(len(names))]})
    write(folder / "karpathy.json", {"dataset": "flickr8k", "images": [
        {"filename": name, "split": "test", "imgid": at, "sentences": [{"raw": f"one {at}", "tokens": ["one"]}]}
        for at, name in enumerate(names)]})
    ids = [f"n{at:08}" for at in range(1000)]
    (folder / "wnids.txt").write_text("".join(f"{one} name\n" for one in ids), "utf-8")
    solution = [f"{Path(name).stem},{ids[at]} 1 2 3 4" for at, name in enumerate(names)]
    (folder / "solution.csv").write_text("\n".join(["ImageId,PredictionString", *solution]) + "\n", "utf-8")
    (folder / "list").mkdir()
    for name in names:
        shutil.copy(folder / "pictures" / name, folder / "list" / f"{Path(name).stem}.JPEG")


def sources(folder: Path, rows):
    """Writes folders of images with their texts, tars of them, and images in every format."""
    for name in ("samples", "fetched", "images/class"):
        (folder / name).mkdir(parents=True)
    for name, caption, _ in rows[:3]:
        stem = Path(name).stem
        shutil.copy(folder / name, folder / "samples" / f"{stem}.png")
        (folder / "samples" / f"{stem}.txt").write_text(f"{caption}\nagain {stem}\n", "utf-8")
        write(folder / "samples" / f"{stem}.json", {"caption": caption, "url": "u", "width": 4, "status": "success"})
    for form, target in ((tarfile.PAX_FORMAT, "samples.tar"), (tarfile.GNU_FORMAT, "fetched/00000.tar")):
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w", format=form) as archive:
            for path in sorted(folder.glob("samples/*")):
                # One name is too long for a header alone.
                entry = tarfile.TarInfo(f"{'deep/' * 25 if path.name.startswith('1.') else ''}{path.name}")
                entry.size = path.stat().st_size
                archive.addfile(entry, io.BytesIO(path.read_bytes()))
        (folder / target).write_bytes(tar.getvalue())
    write(folder / "fetched/00000_stats.json", {"count": 4, "successes": 3, "status_dict": {"success": 3}})
    for path in sorted(FIXTURES.iterdir()):
        shutil.copy(path, folder / "images/class")


def embeddings(rows) -> bytes:
    """Returns the archive that numpy.savez writes of embeddings of images and captions, with their keys."""
    def array(kind, shape, content):
        front = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
        front += b" " * (-(len(front) + 11) % 64) + b"\n"
        return b"\x93NUMPY\1\0" + struct.pack("<H", len(front)) + front + content

    keys = [name.removesuffix(".png") for name, _, _ in rows]
    longest = max(len(key) for key in keys)
    words = "".join(key.ljust(longest, "\0") for key in keys).encode("utf-32-le")
    numbers = array("<f4", (len(rows), 4), struct.pack(f"<{4 * len(rows)}f", *range(1, 4 * len(rows) + 1)))
    return zipped([
        ("keys.npy", array(f"<U{longest}", (len(rows),), words)), ("image.npy", numbers), ("text.npy", numbers)])


def write(path: Path, value):
    path.write_text(json.dumps(value, indent=1), "utf-8")


def weights(folder: Path):
    """Writes the model's weights in the forms of other programs: unsigned, as PyTorch does, and in several files with
    their index."""
    tensors = unpacked(folder / "model/open_clip_model.safetensors")
    for name, file, data in (
        ("plain", "open_clip_model.safetensors", safetensors(tensors)), ("torch", "model.pt", torch_file(tensors)),
    ):
        (folder / name).mkdir()
        shutil.copy(folder / "model/open_clip_config.json", folder / name)
        (folder / name / file).write_bytes(data)
    target, index = folder / "sharded", {}
    shutil.copytree(folder / "hugging_face", target, ignore=shutil.ignore_patterns("*.safetensors"))
    tensors = unpacked(folder / "hugging_face/model.safetensors")
    for number in range(2):
        name = f"model-{number + 1:05}-of-00002.safetensors"
        own = dict(list(tensors.items())[number::2])
        (target / name).write_bytes(safetensors(own))
        index.update(dict.fromkeys(own, name))
    size = sum(len(numbers) for _, numbers in tensors.values())
    write(target / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": index})


def unpacked(path: Path):
    """Returns the shape and the bytes of each tensor of a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, numbers = json.loads(data[8:8 + length]), data[8 + length:]
    return {
        name: (tensor["shape"], numbers[slice(*tensor["data_offsets"])]) for name, tensor in header.items()
        if name != "__metadata__"}


def safetensors(tensors) -> bytes:
    """Returns a safetensors file without a checksum."""
    header, numbers = {"__metadata__": {"format": "pt"}}, b""
    for name, (shape, content) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(numbers), len(numbers) + len(content)]}
        numbers += content
    front = json.dumps(header).encode()
    front += b" " * (-len(front) % 8)
    return len(front).to_bytes(8, "little") + front + numbers


def torch_file(tensors) -> bytes:
    """Returns the file that torch.save writes of a state dict."""
    def text(word):
        return b"X" + struct.pack("<I", len(word)) + word.encode()

    def row(numbers):
        return b"(" + b"".join(b"J" + struct.pack("<i", number) for number in numbers) + b"t"

    empty = b"ccollections\nOrderedDict\n)R"
    items, entries = b"", []
    for key, (name, (shape, numbers)) in enumerate(tensors.items()):
        strides = [math.prod(shape[at + 1:]) for at in range(len(shape))]
        storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(f"{key}") + text("cpu")
        storage += b"J" + struct.pack("<i", len(numbers) // 4) + b"tQ"
        items += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0" + row(shape) + row(strides)
        items += b"\x89" + empty + b"tR"
        entries.append((f"m/data/{key}", numbers))
    pickle = b"\x80\x02" + empty + b"(" + items + b"u."
    return zipped([("m/data.pkl", pickle), ("m/byteorder", b"little"), *entries, ("m/version", b"3\n")])
