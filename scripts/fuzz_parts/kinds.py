"""The kinds of files that are read, each with the commands that read it. Commands run in a folder with copies."""
from dataclasses import dataclass, field

from seals import Block, Checkpoint, Listing, Signature

IMPORT = ["dataset", "import"]
TRAIN = ["train", "run.yaml", "--set", "steps=1", "--set", "evaluate.every=none", "--set", "checkpoint.every=none"]
DATASET, MODEL = ["dataset/*", "words.txt.gz"], ["merged.safetensors", "words.txt.gz"]
# A cache's parts, each of which has a record, too.
CACHE = [f"cache/dataset/part-{number:05}" for number in range(3)]


@dataclass
class Kind:
    name: str
    # Patterns of the files of which one or several are changed, and the format of each.
    inputs: dict
    # The commands that read them, one after the other.
    commands: list
    # Patterns of the other files that the commands read.
    others: list = field(default_factory=list)
    # The checksum that the files have inside, and whether it is made to fit the changes.
    seal: object = None
    renewed: bool = False
    # Whether the second command must accept whatever the first one has accepted.
    agree: bool = False


def weights(name: str, inputs, file="", **options) -> Kind:
    return Kind(name, inputs, [["weights", "import", f"{name}{file}", "--output", "out"]], [f"{name}/*"], **options)


def imported(name: str, inputs, words, others=()) -> Kind:
    """Returns the kind of a source of datasets. What is imported from it, whatever it was, must be sound."""
    words = [*IMPORT, *words, "--max-pixels", "1000000", "--output", "out"]
    return Kind(name, inputs, [words, ["dataset", "verify", "out"]], list(others), agree=True)


def embedded(name: str, inputs, words, others=(), **options) -> Kind:
    return Kind(name, inputs, [["embed", *words, "--output", "out.jsonl"]], list(others), **options)


def sealed(name: str, *arguments, **options):
    """Returns a kind of files with checksums twice: where those must be found broken, and where they are renewed."""
    return [
        Kind(name, *arguments, **options),
        Kind(f"{name}-renewed", *arguments, **{**options, "renewed": True})]


KINDS = {kind.name: kind for kind in [
    Kind(
        "run-file", {"run.yaml": "yaml"},
        [["train", "run.yaml", "--dry-run"], ["plan", "run.yaml", "--gflops", "10"]],
        [*DATASET, "model/*", "cache/dataset/*"]),
    Kind(
        "doctor", {"doctor.json": "json"}, [["plan", "run.yaml", "--doctor", "doctor.json", "--gflops", "10"]],
        ["run.yaml", *DATASET, "model/*", "cache/dataset/*"]),
    Kind(
        "log", {"runs/model/log.jsonl": "json", "runs/model/run.yaml": "yaml", "runs/model/exports.json": "json"},
        [["report", "runs/model", "--examples", "0", "--output", "out.html"]]),
    Kind(
        "embeddings", {"embeddings.npz": "zip"},
        [["precompute", "model.yaml", "--set", "teacher={cache: {path: out, part: 5}}", "--from", "embeddings.npz"]],
        ["model.yaml", *DATASET]),
    # Without checksums, so that the HDF5 library itself meets them, once its structure is found to be that of h5py's.
    Kind(
        "embeddings-hdf5", {"embeddings.h5": "hdf5"},
        [["precompute", "model.yaml", "--set", "teacher={cache: {path: out, part: 5}}", "--from", "embeddings.h5"]],
        ["model.yaml", *DATASET]),
    Kind("vocabulary", {"words.txt.gz": "gzip"}, [["vocabulary", "inspect", "words.txt.gz", "a red square, n° 7"]]),
    embedded(
        "lists", {"captions.txt": "text", "list.txt": "text"},
        ["--checkpoint", "merged.safetensors", "--captions", "captions.txt", "--image-list", "list.txt", "--skip-bad"],
        [*MODEL, "pictures/[0-3].png"]),
    Kind(
        "classes", {"classes.txt": "text", "templates.txt": "text"},
        [["evaluate", "zero-shot", "--checkpoint", "merged.safetensors", "--dataset", "dataset", "--classes",
          "classes.txt", "--templates", "templates.txt"]], [*MODEL, "dataset/*"]),
    # Images in a folder that is a class need no captions.
    imported("image", {"images/class/*": "picture"}, ["images"]),
    embedded(
        "one-image", {"images/class/*": "picture"}, ["--checkpoint", "merged.safetensors", "--images", "images"],
        MODEL),
    imported("table", {"table.tsv": "text"}, ["table.tsv", "--label-column", "kind"], ["pictures/*"]),
    imported("quoted-table", {"table.csv": "text"}, ["table.csv"], ["pictures/[0-3].png"]),
    imported(
        "scores", {"scores.tsv": "text"}, ["dataset", "--scores", "scores.tsv", "--keep", "similarity>0.1"], DATASET),
    imported("coco", {"coco.json": "json"}, ["coco.json", "--images", "pictures"], ["pictures/[0-3].png"]),
    imported(
        "karpathy", {"karpathy.json": "json"}, ["karpathy.json", "--split", "test", "--images", "pictures"],
        ["pictures/[0-3].png"]),
    imported(
        "flickr", {"results.token": "text"}, ["results.token", "--format", "flickr", "--images", "pictures"],
        ["pictures/[0-3].png"]),
    imported(
        "imagenet", {"solution.csv": "text", "wnids.txt": "text"},
        ["solution.csv", "--format", "imagenet-solution", "--wnids", "wnids.txt", "--images", "list"], ["list/*"]),
    imported("folder", {"samples/*.txt": "text", "samples/*.json": "json"}, ["samples"], ["samples/*"]),
    imported("tar", {"samples.tar": "tar"}, ["samples.tar"]),
    imported("img2dataset", {"fetched/00000.tar": "tar", "fetched/00000_stats.json": "json"}, ["fetched"]),
    weights("plain", {"plain/open_clip_model.safetensors": "safetensors", "plain/open_clip_config.json": "json"}),
    weights("torch", {"torch/model.pt": "zip"}, "/model.pt"),
    weights("sharded", {"sharded/*.safetensors": "safetensors", "sharded/*.json": "json"}),
    weights("hugging_face", {"hugging_face/*.json": "json"}),
    weights(
        "model", {"model/open_clip_model.safetensors": "safetensors"},
        seal=Signature("model/open_clip_model.safetensors")),
    embedded(
        "merged", {"merged.safetensors": "safetensors"}, ["--checkpoint", "merged.safetensors", "--text", "a bar"],
        ["words.txt.gz"], seal=Signature("merged.safetensors"), renewed=True),
    *sealed(
        "hdf5-weights", {"merged.h5": "hdf5"},
        [["embed", "--checkpoint", "merged.h5", "--text", "a bar", "--output", "out.jsonl"]], ["words.txt.gz"],
        seal=Block("merged.h5")),
    *sealed(
        "dataset", {"dataset/corpus.json": "json", "dataset/*.h5": "hdf5"},
        [["dataset", "verify", "dataset"], ["dataset", "inspect", "dataset", "--json"]],
        seal=Listing("dataset/corpus.json", "shards", "file_bytes"), agree=True),
    *sealed(
        "checkpoint", {"runs/model/checkpoints/step-00000002/*": "json"},
        [["merge", "runs/model/checkpoints/step-00000002", "--output", "out.safetensors"]],
        seal=Checkpoint("runs/model/checkpoints/step-00000002/manifest.json", "parts", "bytes")),
    *sealed(
        "cache", {"cache/dataset/cache.json": "json", **{f"{part}.h5": "hdf5" for part in CACHE}}, [TRAIN],
        ["run.yaml", *DATASET, "model/*", "cache/dataset/*"],
        seal=Listing("cache/dataset/cache.json", "parts", "bytes", [f"{part}.json" for part in CACHE])),
    # What a job that was killed has left: it goes on with the parts whose records it believes.
    Kind(
        "cache-resumed", {"cache/dataset/part-*": "json"}, [["precompute", "run.yaml"], TRAIN],
        ["run.yaml", *DATASET, "model/*"], agree=True),
]}
