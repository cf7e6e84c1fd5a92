"""Prints the figures of the students that scripts/teach-from-minilm has trained: means over the seeds with standard
deviations, and the differences between the two that have a teacher, seed by seed.

  table.py RUNS SEEDS ENDING
"""
import json
import statistics
import sys
from pathlib import Path

STUDENTS = {"alone": "no teacher", "images": "intra of images", "captions": "intra of images and, by MiniLM, captions"}
COLUMNS = {
    "naming top-1": ("retrieval", "image_to_text", "R@1"), "top-5": ("retrieval", "image_to_text", "R@5"),
    "finding top-1": ("retrieval", "text_to_image", "R@1"), "top-5 ": ("retrieval", "text_to_image", "R@5"),
    "subgroup top-1": ("zero-shot", "top1")}


def figure(run: Path, name: str, *keys):
    found = json.loads((run / f"{name}.json").read_text("utf-8"))
    for key in keys:
        found = found[key]
    return 100 * found


def text(values, sign=""):
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.1f}{spread}"


def main():
    runs, seeds, ending = Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3]
    figures = {
        student: [[figure(runs / f"{student}-{seed}{ending}", *path) for seed in seeds] for path in COLUMNS.values()]
        for student in STUDENTS}
    rows = [[title, *map(text, figures[student])] for student, title in STUDENTS.items()]
    gains = [[one - other for one, other in zip(*pair)] for pair in zip(figures["captions"], figures["images"])]
    rows.append(["gain by the captions' term", *(text(gain, "+") for gain in gains)])
    print(f"\nseeds {', '.join(seeds)}: mean ± standard deviation, in percent, on emojify's 851 drawings\n")
    print("| student | " + " | ".join(name.strip() for name in COLUMNS) + " |")
    print("|---|" + "---|" * len(COLUMNS))
    for row in rows:
        print(f"| {' | '.join(row)} |")


main()
