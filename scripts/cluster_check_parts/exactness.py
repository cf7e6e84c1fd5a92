"""A run that loses a host and goes on with half of its ranks, merging and evaluation, against a single rank."""
import array
import json
import math
from pathlib import Path

from command_line.refused import INTERNAL, Refused
from cluster import RECIPE, Hosts, Runner
from report import Row

HOSTS, LEFT = Hosts(8, 4), Hosts(4, 4)
STEPS, STRUCK = 50, 20
# Of gradients that are summed in another order, and of gradients that travel rounded.
LOSSES = {"fp32": 1e-4, "bf16": 2e-2}
WEIGHTS = {"fp32": 1e-3, "bf16": 5e-2}
FIGURES = {"fp32": 0.01, "bf16": 0.05}
# The last host loses its power when the checkpoint is there. The job then ends with an error of its own.
SCRIPT = """
"$@" >&2 &
job=$!
while [[ ! -e $CHECKPOINT ]]; do
  kill -0 "$job" 2>/dev/null || { echo "the job ended before it was struck" >&2; exit 70; }
  sleep 0.1
done
"$VIRTUAL_CLUSTER" --kill-host node-HOST
status=0
wait "$job" || status=$?
echo "status $status"
"""


def alone(runner: Runner):
    """Trains on a single rank, and returns its losses, merged file and figures."""
    runner.alone("train", str(RECIPE), *runner.settings("name=alone", f"steps={STEPS}"), "--resume", "fresh")
    merged = runner.folder / "alone.safetensors"
    runner.alone("merge", f"{runner.folder}/runs/alone", "--output", str(merged))
    return losses(runner, "alone"), merged, evaluate(runner.alone, runner, merged)


def check(runner: Runner, variant, single):
    wire = next((value.partition("=")[2] for value in variant if value.startswith("reduce.wire=")), "fp32")
    setting, name = " ".join(variant), "-".join(["exact", *(value.partition("=")[2] for value in variant)])
    run = runner.folder / "runs" / name
    words = ["train", str(RECIPE), *runner.settings(f"name={name}", f"steps={STEPS}", *variant), "--resume", "auto"]
    checkpoint = f"CHECKPOINT={run}/checkpoints/step-{STRUCK:08}\n"
    ended = runner.on(HOSTS, *words, script=checkpoint + SCRIPT.replace("HOST", str(HOSTS.count)))
    if "status 0" in ended:
        raise Refused(f"{name}: the run ended well though a host of it was lost", INTERNAL)
    runner.on(LEFT, *words)
    merged = {where: runner.folder / f"{name}-{where}.safetensors" for where in ("alone", "together")}
    runner.alone("merge", str(run), "--output", str(merged["alone"]))
    runner.on(LEFT, "merge", str(run), "--output", str(merged["together"]))
    same = merged["alone"].read_bytes() == merged["together"].read_bytes()
    figures = {
        "alone": evaluate(runner.alone, runner, merged["alone"]),
        "together": evaluate(lambda *words: runner.on(LEFT, *words), runner, merged["alone"])}
    found, (expected, weights, known) = losses(runner, name), single
    if sorted(found) != sorted(expected):
        raise Refused(f"{run}: expected the losses of {len(expected)} steps, found {len(found)}", INTERNAL)
    worst = max(expected, key=lambda step: abs(found[step] / expected[step] - 1))

    def row(quantity, measured, foretold, error, bound, where=f"{HOSTS}, then {LEFT.ranks} ranks"):
        return Row("exact", where, setting, quantity, measured, foretold, error, bound)

    unequal = int(figures["alone"] != figures["together"])
    recall = [figure["image_to_text"]["MRR"] for figure in (figures["alone"], known)]
    return [
        row(f"loss of step {worst}, the most different of {STEPS}", found[worst], expected[worst],
            found[worst] / expected[worst] - 1, LOSSES[wire]),
        row("norm of the weights' difference over theirs", difference(merged["alone"], weights), 0,
            difference(merged["alone"], weights), WEIGHTS[wire]),
        row("mean reciprocal rank of captions", *recall, recall[0] - recall[1], FIGURES[wire]),
        row("merged files that differ from a single rank's", 1 - int(same), 0, 1 - int(same), 0, str(LEFT)),
        row("evaluations that differ from a single rank's", unequal, 0, unequal, 0, str(LEFT))]


def losses(runner: Runner, name: str):
    """Returns the loss of each step; of one that was made twice, the later."""
    found = {}
    for line in (runner.folder / "runs" / name / "log.jsonl").read_text("utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            # The job that was struck may have left half a line.
            continue
        if entry.get("event") == "step":
            found[entry["step"]] = float(entry["loss"])
    return found


def evaluate(run, runner: Runner, model: Path):
    """Returns the figures of retrieval, without the names of files."""
    output = model.with_suffix(".json")
    what = ["--checkpoint", str(model), "--dataset", f"{runner.folder}/drawings"]
    run("evaluate", "retrieval", *what, "--json", str(output))
    found = json.loads(output.read_text("utf-8"))
    return {way: found[way] for way in ("image_to_text", "text_to_image")}


def difference(model: Path, other: Path) -> float:
    """Returns |a - b| / |b| of two safetensors files of the same tensors in fp32; not a number if they have others."""
    first, second = numbers(model), numbers(other)
    if len(first) != len(second):
        return math.nan
    return math.sqrt(
        math.fsum((a - b) ** 2 for a, b in zip(first, second)) / math.fsum(b * b for b in second))


def numbers(path: Path):
    with path.open("rb") as file:
        file.seek(int.from_bytes(file.read(8), "little"), 1)
        found = array.array("f")
        found.frombytes(file.read())
    return found
