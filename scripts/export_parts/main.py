"""The command line of scripts/bench-export, whose head describes it."""
import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# Behind the program's own folder, which comes first; and the studies' reader of YAML.
SCRIPTS = Path(__file__).resolve().parent.parent
sys.path[1:1] = [str(SCRIPTS), str(SCRIPTS / "study_parts")]
from command_line.arguments import Arguments, number
from command_line.program import execute, required
from command_line.refused import INTERNAL, Refused, refuse_when_stopped, run_program
from measured import OnnxForm, OwnForm
from run_file import Run

TYPES = ["fp32", "fp16", "int8"]


def seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,3})?", text) or float(text) == 0:
        raise argparse.ArgumentTypeError(f"expected seconds such as 5 or 0.5, found '{text}'")
    return float(text)


def arguments():
    positive = number(1, 999_999)
    parser = Arguments("bench export")
    parser.add_argument("run")
    parser.add_argument("--types", nargs="+", choices=[*TYPES, "none"], default=TYPES)
    parser.add_argument("--no-teacher", action="store_true")
    parser.add_argument("--no-accuracy", action="store_true")
    parser.add_argument("--repetitions", type=positive, default=200)
    parser.add_argument("--seconds", type=seconds, default=5.0)
    parser.add_argument("--batch", type=positive, default=64)
    parser.add_argument("--caption-tokens", type=positive)
    parser.add_argument("--core", type=number(0, 999_999))
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    given.types = [] if "none" in given.types else [kind for kind in TYPES if kind in given.types]
    cores = sorted(os.sched_getaffinity(0))
    given.core = cores[-1] if given.core is None else given.core
    if given.core not in cores:
        raise Refused(f"--core {given.core}: this process may use the cores {', '.join(map(str, cores))}")
    return given


def say(words: str):
    print(f"bench export: {words}", file=sys.stderr, flush=True)


class Kinship:
    """The program, with the threads of all cores unless KINSHIP_THREADS says otherwise."""

    def __init__(self):
        self.program = required()
        # scripts/setup limits the libraries to one thread, for ranks and tests.
        limits = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
        self.environment = {key: value for key, value in os.environ.items() if key not in limits}

    def run(self, *words, core=None) -> str:
        """Returns what a command prints; bound to a core if one is given."""
        done = execute([self.program, *words], core, stdout=subprocess.PIPE, encoding="utf-8", env=self.environment)
        if done.returncode:
            raise Refused(f"{' '.join(done.args)} ended with {done.returncode}", done.returncode)
        return done.stdout

    def report(self, *words, core=None) -> dict:
        """Returns the JSON object on the last line of what a benchmark prints."""
        return last_object(self.run("bench", *words, core=core), "kinship bench")


def last_object(output: str, program: str) -> dict:
    try:
        found = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        raise Refused(f"the last line of {program} is not a JSON object: {output[-200:]}", INTERNAL) from None
    return found


def forms(given, run: Run, kinship: Kinship, work: Path):
    """Exports the run and its teachers, and returns their forms in the order of the table."""
    own = OwnForm("Kinship fp32", str(run.folder), kinship, work / "kinship")
    own.evaluate_options = ["--checkpoint", str(run.folder)]
    found = [own]
    if given.types:
        python = execute([SCRIPTS / "onnx-python"], stdout=subprocess.PIPE, encoding="utf-8")
        if python.returncode:
            raise Refused("there is no Python with onnxruntime", python.returncode)
        found += [
            OnnxForm(f"ONNX {kind}", str(run.folder), kind, kinship, python.stdout.strip(), work / f"onnx-{kind}")
            for kind in given.types]
    if given.no_teacher:
        return found
    for index, teacher in enumerate(run.teachers):
        if not os.path.exists(teacher.model):
            say(f"without the teacher {teacher.model}: there is no such file or folder")
            continue
        name = f"teacher {teacher.name}" + (f" ({index + 1})" if len(run.teachers) > 1 else "")
        form = OwnForm(name, teacher.model, kinship, work / f"teacher-{index}", teacher.export_options(), True)
        if teacher.is_prepared_otherwise:
            say(f"without accuracies of the {name}: the run prepares its images otherwise than its own files say")
        else:
            form.evaluate_options = teacher.evaluate_options()
        found.append(form)
    return found


def evaluations(given, run: Run):
    """The run's evaluations whose datasets are there."""
    if given.no_accuracy:
        return []
    for one in run.evaluations:
        if not os.path.exists(one.dataset):
            say(f"without the evaluation on {one.dataset}: there is no such dataset")
    return [one for one in run.evaluations if os.path.exists(one.dataset)]


def main():
    given = arguments()
    run = Run(given.run)
    if given.dry_run:
        return
    kinship = Kinship()
    refuse_when_stopped()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        all_forms = forms(given, run, kinship, work)
        for form in all_forms:
            say(f"{form.name}: size, memory, latency and throughput")
            form.measure(given, all_forms[0])
        chosen = evaluations(given, run)
        for form in all_forms:
            if chosen:
                say(f"{form.name}: accuracy")
                form.evaluate(chosen, work)
        own = all_forms[0]
        figures = {
            "schema": "kinship/exports/1", "run": run.name, "step": run.step,
            "time": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "processor": own.report["processor"], "cores": own.cores, "image_size": own.report["image_size"],
            "caption_tokens": own.report["caption_tokens"], "batch": given.batch,
            "forms": [form.figures for form in all_forms]}
        file = work / "exports.json"
        file.write_text(json.dumps(figures), "utf-8")
        kinship.run("report", run.folder, "--exports", file)
    print((run.folder / "exports.md").read_text("utf-8"))
    print(json.dumps(figures, sort_keys=True))


if __name__ == "__main__":
    run_program("bench export", main)
