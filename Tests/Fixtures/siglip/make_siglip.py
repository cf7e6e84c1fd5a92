"""Writes siglip.json: open_clip's SigLipLoss and its gradients in float64 on a few small batches.

    python make_siglip.py            # needs torch and open_clip_torch (made with 2.13.0 and 3.3.0), takes a second

Inputs are multiples of 1/256, so that single precision holds them exactly. Rows are raw features: the loss sees them
divided by their lengths, as open_clip's model hands them over, and gradients are with respect to the raw rows.
"""

import json
import pathlib

import torch
import torch.nn.functional as F
from open_clip.loss import SigLipLoss

torch.set_num_threads(1)

# Name, pairs, width, logarithm of the scale, bias.
CASES = [
    ("start", 7, 5, 2.25, -10.0),
    ("trained", 13, 3, 1.5, -1.5),
    ("positive", 11, 7, 0.5, 0.75),
    ("one", 1, 4, 2.25, -10.0),
    ("large", 6, 2, 4.5, -16.0),
]


def rows(generator, n, d):
    return torch.randint(-768, 769, (n, d), generator=generator).double() / 256


def global_loss(image, text, scale, bias, ranks):
    """The mean over `ranks` of what each rank's SigLipLoss comes to, exchange of captions included."""
    b = len(image) // ranks
    module = SigLipLoss()
    total = 0
    for r in range(ranks):
        for k in range(ranks):
            total = total + module._loss(
                image[r * b:(r + 1) * b], text[k * b:(k + 1) * b], scale, bias, negative_only=r != k)
    return total / ranks


def case(seed, name, n, d, logit_scale, logit_bias):
    generator = torch.Generator().manual_seed(seed)
    image, text = rows(generator, n, d).requires_grad_(), rows(generator, n, d).requires_grad_()
    scale = torch.tensor(logit_scale, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(logit_bias, dtype=torch.float64, requires_grad=True)
    u, v = F.normalize(image, dim=1), F.normalize(text, dim=1)
    loss = SigLipLoss()(u, v, scale.exp(), bias)
    loss.backward()
    for ranks in (2, 3):
        if n % ranks == 0:
            apart = global_loss(u, v, scale.exp(), bias, ranks)
            assert abs(apart.item() - loss.item()) < 1e-13 * loss.item(), (name, ranks)
    return {
        "name": name, "pairs": n, "width": d, "logit_scale": logit_scale, "logit_bias": logit_bias,
        "image": image.flatten().tolist(), "text": text.flatten().tolist(), "value": loss.item(),
        "gradients": {
            "image": image.grad.flatten().tolist(), "text": text.grad.flatten().tolist(),
            "logit_scale": [scale.grad.item()], "logit_bias": [bias.grad.item()],
        },
    }


if __name__ == "__main__":
    cases = [case(seed, *what) for seed, what in enumerate(CASES, 20)]
    path = pathlib.Path(__file__).with_name("siglip.json")
    path.write_text(json.dumps({"cases": cases}, indent=1) + "\n")
