"""Runs an exported folder's visual.onnx and textual.onnx with onnxruntime, and prints one JSON object.

    onnx_form.py latency FOLDER --threads 1 --repetitions N --caption-tokens N --end-id N
    onnx_form.py throughput FOLDER --threads N --batch N --seconds N --caption-tokens N --end-id N
    onnx_form.py accuracy FOLDER --threads N --evaluations FILE

Each is a process of its own, so that its memory is that of the form alone. scripts/bench-export starts them.
"""
import argparse
import json
import math
import re
import time
from pathlib import Path

import numpy
import onnxruntime

TYPES = {"tensor(float)": numpy.float32, "tensor(float16)": numpy.float16, "tensor(int64)": numpy.int64,
         "tensor(int32)": numpy.int32}


class Tower:
    """One of the two models: rows of inputs to unit embeddings [n, d]."""

    def __init__(self, path: Path, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        entry = self.session.get_inputs()[0]
        # The sizes of each row of the input, whose first dimension is the batch; a name is of a size that may vary.
        self.name, self.type, self.shape = entry.name, TYPES[entry.type], entry.shape[1:]

    @property
    def context(self):
        """The number of a caption's tokens, if all captions must have as many."""
        return self.shape[0] if isinstance(self.shape[0], int) else None

    def __call__(self, rows):
        return self.session.run(None, {self.name: rows.astype(self.type, copy=False)})[0]


def seconds_of(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def mean_seconds(call, seconds: float, least: int) -> float:
    """The mean time of calls, until the seconds have passed, of which there are at least so many."""
    start, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds or count < least:
        call()
        count += 1
    return passed / count


def latency(call, repetitions: int, seconds: float):
    """The median and the 99th percentile in milliseconds, after calls that warm up, as `kinship bench inference` has
    them."""
    mean_seconds(call, min(1, seconds), 10)
    times = sorted(1000 * seconds_of(call) for _ in range(repetitions))
    return {"median": times[len(times) // 2], "p99": times[math.ceil(0.99 * len(times)) - 1],
            "repetitions": repetitions}


def throughput(call, batch: int, seconds: float) -> float:
    mean_seconds(call, min(1, seconds), 1)
    return batch / mean_seconds(call, seconds, 3)


def inputs(visual: Tower, textual: Tower, batch: int, tokens: int, end: int):
    """Made-up images, and captions of some tokens that end with the id `end`, padded if the context is fixed."""
    random = numpy.random.default_rng(0)
    images = random.uniform(-2, 2, (batch, *visual.shape)).astype(numpy.float32)
    captions = numpy.zeros((batch, textual.context or tokens), numpy.int64)
    captions[:, :tokens] = random.integers(1, 256, (batch, tokens))
    captions[:, tokens - 1] = end
    return images, captions


def peak_bytes() -> int:
    status = Path("/proc/self/status").read_text("utf-8")
    return 1024 * int(re.search(r"VmHWM:\s*([0-9]+) kB", status)[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("figure", choices=["latency", "throughput", "accuracy"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--caption-tokens", type=int, default=16)
    parser.add_argument("--end-id", type=int)
    parser.add_argument("--evaluations", type=Path)
    given = parser.parse_args()
    visual, textual = (Tower(given.folder / f"{name}.onnx", given.threads) for name in ("visual", "textual"))
    if given.figure == "accuracy":
        from accuracy import accuracies
        print(json.dumps(accuracies(given.folder, visual, textual, json.loads(given.evaluations.read_text("utf-8")))))
        return
    batch = 1 if given.figure == "latency" else given.batch
    images, captions = inputs(visual, textual, batch, given.caption_tokens, given.end_id)
    calls = {"image": lambda: visual(images), "caption": lambda: textual(captions)}
    found = {"program": f"onnxruntime {onnxruntime.__version__}"}
    for name, call in calls.items():
        if given.figure == "latency":
            found[f"{name}_ms"] = latency(call, given.repetitions, given.seconds)
        else:
            found[f"{name}s_per_s"] = throughput(call, batch, given.seconds)
    if given.figure == "latency":
        found["peak_bytes"] = peak_bytes()
    print(json.dumps(found))


main()
