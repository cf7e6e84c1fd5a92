"""Prints what the quickstart's models can do, side by side.

    table.py RUN     RUN is the teacher's run; its students are RUN-alone and RUN-distilled
"""
import json
import sys
from pathlib import Path

teacher = Path(sys.argv[1])
models = [("the teacher", teacher), ("a student alone", Path(f"{teacher}-alone")),
          ("the student, distilled", Path(f"{teacher}-distilled"))]


def figures(run, name):
    return json.loads((run / f"{name}.json").read_text("utf-8"))


def described(name, run):
    size = (run / "open_clip_model.safetensors").stat().st_size / 4e6
    return f"{name} ({size:.2g} M parameters, {figures(run, 'retrieval')['step']} steps)"


def table(title, rows):
    ranked = any(rest for _, _, _, *rest in rows)
    print(f"\n{title}\n{'':58}{'top-1':>9}{'top-5':>9}{'mean rank' if ranked else '':>11}")
    for name, top1, top5, *rank in rows:
        print(f"  {name:56}{100 * top1:7.2f} %{100 * top5:7.2f} %" + "".join(f"{value:11.1f}" for value in rank))


def of_models(kind, *keys, direction=None):
    for name, run in models:
        found = figures(run, kind)
        found = found[direction] if direction else found
        yield described(name, run), *(found[key] for key in keys)


retrieval, zero_shot = (figures(teacher, name) for name in ("retrieval", "zero-shot"))
# It is missing where the Python that would compute it lacks the packages.
pixels = figures(teacher, "pixel-baseline") if (teacher / "pixel-baseline.json").exists() else None
nearest = [("nearest training image, by pixel", pixels["evaluated"]["top1"], pixels["evaluated"]["top5"])] if pixels else []
naming, finding = retrieval["image_to_text"], retrieval["text_to_image"]
table(f"naming {naming['queries']} drawings of an artist never seen, among {naming['candidates']} names", [
    ("chance", 1 / naming["candidates"], 5 / naming["candidates"], (1 + naming["candidates"]) / 2),
    *nearest,
    *of_models("retrieval", "R@1", "R@5", "mean_rank", direction="image_to_text"),
])
if pixels:
    print(f"  (by pixel among all {pixels['every']['candidates']} training names:"
          f" {pixels['every']['top1']:.2%}, {pixels['every']['top5']:.2%})")
table(f"finding the drawing of each of {finding['queries']} names, among {finding['candidates']}", [
    ("chance", 1 / finding["candidates"], 5 / finding["candidates"], (1 + finding["candidates"]) / 2),
    *of_models("retrieval", "R@1", "R@5", "mean_rank", direction="text_to_image"),
])
table(f"telling {zero_shot['pictures']} of them apart by subgroup, among {zero_shot['classes']}", [
    ("chance", 1 / zero_shot["classes"], 5 / zero_shot["classes"]),
    *of_models("zero-shot", "top1", "top5"),
])
