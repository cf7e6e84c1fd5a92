"""Writes patch_dropout.json: open_clip's VisionTransformer in training with its PatchDropout, in float64, with the patches
that it kept, its features, and the gradients of all parameters.

    python make_patch_dropout.py     # needs torch and open_clip_torch (made with 2.15.0 and 3.3.0), takes a second

Parameters and images are made by a rule that the test repeats (`value` below), in multiples of 1/256, so that single
precision holds them exactly. The loss is the sum of the features, each times a weight by the same rule. PatchDropout draws
its patches with torch.randn; the same draw from the same seed says here which ones it keeps.
"""
import json
import pathlib

import open_clip
import torch
from open_clip.transformer import PatchDropout, VisionTransformer

torch.set_num_threads(1)

SIZES = {"image_size": 12, "patch_size": 4, "width": 6, "layers": 2, "head_width": 3, "embed_dim": 5}
IMAGES = 3
# Name, share that is left out; of nine patches 5, 1 and 8 remain.
CASES = [("half", 0.4), ("one patch", 0.95), ("all but one", 0.1)]


def value(element, number):
    """Element of the tensor of this number: parameters count from 0 by rising names, images are 101, weights 102."""
    return ((element * 37 + number * 101) % 127 - 63) / 256


def fill(tensor, number, offset=0.0):
    values = [offset + value(element, number) for element in range(tensor.numel())]
    return torch.tensor(values, dtype=torch.float64).reshape(tensor.shape)


def case(seed, name, share):
    width = SIZES["width"]
    tower = VisionTransformer(
        image_size=SIZES["image_size"], patch_size=SIZES["patch_size"], width=width, layers=SIZES["layers"],
        heads=width // SIZES["head_width"], mlp_ratio=4.0, patch_dropout=share,
        output_dim=SIZES["embed_dim"]).double().train()
    parameters = dict(sorted(tower.named_parameters()))
    with torch.no_grad():
        for number, (key, parameter) in enumerate(parameters.items()):
            # Norms multiply by numbers around 1.
            is_norm = ".ln_" in f".{key}" and key.endswith("weight")
            parameter.copy_(fill(parameter, number, 1.0 if is_norm else 0.0))
    assert isinstance(tower.patch_dropout, PatchDropout)
    images = fill(torch.empty(IMAGES, 3, SIZES["image_size"], SIZES["image_size"]), 101)
    patches = (SIZES["image_size"] // SIZES["patch_size"]) ** 2
    torch.manual_seed(seed)
    kept = torch.randn(IMAGES, patches).topk(max(1, int(patches * (1 - share))), dim=-1).indices
    # What was drawn is what the module keeps.
    torch.manual_seed(seed)
    tokens = tower.patch_dropout(torch.arange(patches + 1.0).expand(IMAGES, -1)[..., None])[..., 0]
    assert torch.equal(tokens[:, 1:].long(), kept + 1)
    torch.manual_seed(seed)
    features = tower(images)
    (features * fill(features, 102)).sum().backward()
    return {
        "name": name, "patch_dropout": share, "kept": [[0, *sorted((row + 1).tolist())] for row in kept],
        "features": features.flatten().tolist(),
        "gradients": {key: parameter.grad.flatten().tolist() for key, parameter in parameters.items()},
    }


if __name__ == "__main__":
    cases = [case(seed, *what) for seed, what in enumerate(CASES, 7)]
    path = pathlib.Path(__file__).with_name("patch_dropout.json")
    path.write_text(json.dumps({"sizes": SIZES, "images": IMAGES, "cases": cases}) + "\n")
    print(torch.__version__, open_clip.__version__)
