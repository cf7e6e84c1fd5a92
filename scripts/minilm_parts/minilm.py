"""MiniLM's sentence embeddings (all-MiniLM-L6-v2: BERT of 6 layers, 384 wide; the mean over the tokens, of length 1) in
numpy: the package that carries the weights asks for PyTorch, which a few thousand captions do not need."""
import json
from pathlib import Path

import numpy
from tokenizers import Tokenizer

# n: texts, t: tokens of each, w: the width, 384, of 12 heads of 32.
HEADS = 12
EPSILON = 1e-12
LONGEST = 256


class MiniLM:
    def __init__(self, folder: Path):
        with open(folder / "model.safetensors", "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(size))
            data = file.read()
        self.weights = {
            name: numpy.frombuffer(data[slice(*entry["data_offsets"])], numpy.float32).reshape(entry["shape"])
            for name, entry in entries.items() if name != "__metadata__" and entry["dtype"] == "F32"}
        self.layers = sum(name.endswith("self.query.weight") for name in self.weights)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(LONGEST)

    def embed(self, texts):
        """Returns the unit embeddings [texts, w]."""
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        by_length = {}
        for text, encoding in zip(numbers, self.tokenizer.encode_batch(list(numbers))):
            by_length.setdefault(len(encoding.ids), []).append((numbers[text], encoding.ids))
        rows = numpy.zeros((len(numbers), self.weights["embeddings.word_embeddings.weight"].shape[1]), numpy.float32)
        # Texts of one length together need no padding, and so no mask.
        for group in by_length.values():
            for first in range(0, len(group), 64):
                part = group[first:first + 64]
                rows[[number for number, _ in part]] = self.forward(numpy.array([ids for _, ids in part]))
        rows /= numpy.linalg.norm(rows, axis=1, keepdims=True)
        return rows[[numbers[text] for text in texts]]

    def forward(self, ids):
        """Returns the mean of the last layer's tokens [n, w] for ids [n, t]."""
        n, t = ids.shape
        x = self.weights["embeddings.word_embeddings.weight"][ids]
        x = x + self.weights["embeddings.position_embeddings.weight"][:t]
        x = self.norm(x + self.weights["embeddings.token_type_embeddings.weight"][0], "embeddings")
        for layer in range(self.layers):
            name = f"encoder.layer.{layer}."
            q, k, v = (
                self.linear(x, f"{name}attention.self.{part}").reshape(n, t, HEADS, -1).transpose(0, 2, 1, 3)
                for part in ("query", "key", "value"))
            scores = q @ k.transpose(0, 1, 3, 2) / numpy.sqrt(numpy.float32(q.shape[-1]))
            shares = numpy.exp(scores - scores.max(-1, keepdims=True))
            shares /= shares.sum(-1, keepdims=True)
            mixed = (shares @ v).transpose(0, 2, 1, 3).reshape(n, t, -1)
            x = self.norm(x + self.linear(mixed, f"{name}attention.output.dense"), f"{name}attention.output")
            hidden = gelu(self.linear(x, f"{name}intermediate.dense"))
            x = self.norm(x + self.linear(hidden, f"{name}output.dense"), f"{name}output")
        return x.mean(1)

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / numpy.sqrt((x * x).mean(-1, keepdims=True) + numpy.float32(EPSILON))
        return x * self.weights[f"{name}.LayerNorm.weight"] + self.weights[f"{name}.LayerNorm.bias"]


def gelu(x):
    """x Φ(x), with the error function of Abramowitz and Stegun, 7.1.26, which is off by at most 1.5e-7."""
    z = numpy.abs(x) / numpy.float32(numpy.sqrt(2))
    t = 1 / (1 + numpy.float32(0.3275911) * z)
    sum_of_powers = t * 0
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        sum_of_powers = (sum_of_powers + numpy.float32(factor)) * t
    erf = numpy.sign(x) * (1 - sum_of_powers * numpy.exp(-z * z))
    return x * (1 + erf) / 2
