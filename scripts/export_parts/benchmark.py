"""The command line of scripts/clip-benchmark, whose head describes it."""
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

# Behind the program's own folder, which comes first; and the studies' reader of YAML.
SCRIPTS = Path(__file__).resolve().parent.parent
sys.path[1:1] = [str(SCRIPTS), str(SCRIPTS / "study_parts")]
from command_line.arguments import Arguments
from command_line.files import publish
from command_line.program import execute, required
from command_line.refused import BAD_DATA, INTERNAL, Refused, refuse_when_stopped, run_program
from run_file import Evaluation, Run

# In points of a hundred. Shares are whole counts over counts, so that only rounding remains below it.
LIMIT = 0.1 + 1e-9
TASKS = {"retrieval": "zeroshot_retrieval", "zero-shot": "zeroshot_classification"}


def arguments():
    parser = Arguments("clip-benchmark")
    parser.add_argument("run")
    for name in ("dataset", "classes", "templates", "subset", "json"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--captions", choices=["all", "first"])
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    for name in ("classes", "templates", "subset"):
        if getattr(given, name) and not given.dataset:
            raise Refused(f"--{name} belongs to --dataset; leave it out, or name the dataset")
    return given


def evaluations(given, run: Run):
    found = run.evaluations
    if given.dataset:
        found = [Evaluation({"kind": kind, "dataset": given.dataset}) for kind in kinds(given.dataset)]
        for one in found:
            one.classes, one.templates, one.subset = given.classes, given.templates, given.subset
    for one in found:
        one.captions = given.captions or one.captions
    if not found:
        raise Refused(f"{given.run} evaluates neither retrieval nor zero-shot classification; name a dataset with"
                      " --dataset", BAD_DATA)
    return found


def kinds(path: str):
    from dataset import Dataset
    index = Dataset(path).index
    found = (["retrieval"] if index["totals"]["captions"] else []) + (["zero-shot"] if index["labeled"] else [])
    if not found:
        raise Refused(f"{path} has neither captions nor labels", BAD_DATA)
    return found


def kinship(*words):
    done = execute([required(), *words], stdout=subprocess.DEVNULL)
    if done.returncode:
        raise Refused(f"{' '.join(done.args)} ended with {done.returncode}", done.returncode)


def of_kinship(run: str, folder, work: Path) -> dict:
    """What kinship evaluate finds in a webdataset's folder, by the names of the table."""
    from dataset import Dataset
    kinship("dataset", "import", folder.tar, "--output", work / "dataset")
    imported = Dataset(str(work / "dataset")).count
    if imported != folder.count:
        raise Refused(f"Kinship imported {imported} of {folder.count} images of the webdataset", INTERNAL)
    words = ["--captions", "all", "--duplicates", "strict"] if folder.kind == "retrieval" else [
        "--classes", folder.classes, "--templates", folder.sentences]
    file = work / "kinship.json"
    kinship("evaluate", folder.kind, "--checkpoint", run, "--dataset", work / "dataset", *words, "--json", file)
    found = json.loads(file.read_text("utf-8"))
    if folder.kind == "zero-shot":
        return {f"top-{k}": found[f"top{k}"] for k in folder.ranks}
    return {f"R@{k} {title}": found[way][f"R@{k}"] for k in folder.ranks
            for title, way in (("image to caption", "image_to_text"), ("caption to image", "text_to_image"))}


def of_benchmark(model: Path, folder, work: Path) -> dict:
    """What CLIP_benchmark finds, by the same names."""
    file = work / "benchmark.json"
    command = [
        sys.executable, "-m", "clip_benchmark.cli", "eval", "--model_type", "open_clip", "--model",
        f"local-dir:{model}", "--pretrained", "", "--dataset", "wds/kinship", "--dataset_root", folder.path, "--split",
        "test", "--task", TASKS[folder.kind], "--no_amp", "--num_workers", "0", "--batch_size", "64", "--recall_k",
        *folder.ranks, "--output", file]
    done = execute(command, stdout=sys.stderr)
    if done.returncode:
        raise Refused(f"CLIP_benchmark ended with {done.returncode}", INTERNAL)
    found = json.loads(file.read_text("utf-8"))["metrics"]
    if folder.kind == "zero-shot":
        return {f"top-{k}": found[f"acc{k}"] for k in folder.ranks}
    return {f"R@{k} {title}": found[f"{what}_retrieval_recall@{k}"] for k in folder.ranks
            for title, what in (("image to caption", "text"), ("caption to image", "image"))}


def main() -> int:
    given = arguments()
    run = Run(given.run)
    if given.dry_run:
        return 0
    # They come from other packages, which are installed when the arguments have been found right.
    import open_clip
    from webdataset_folder import Folder
    refuse_when_stopped()
    chosen = evaluations(given, run)
    programs = f"CLIP_benchmark {version('clip-benchmark')}, open_clip {open_clip.__version__}"
    worst, results = 0.0, []
    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary) / "model"
        kinship("weights", "export", given.run, "--form", "open_clip", "--output", model)
        config = json.loads((model / "open_clip_config.json").read_text("utf-8"))
        if "note" in config:
            raise Refused(f"open_clip cannot build the model: {config['note']}", BAD_DATA)
        tokenize = open_clip.get_tokenizer(f"local-dir:{model}")
        for number, one in enumerate(chosen):
            work = Path(temporary) / str(number)
            folder = Folder(work / "webdataset", one, config["preprocess_cfg"], tokenize)
            print(f"\n{one.kind} on {one.dataset}: {folder.summary}")
            ours, theirs = of_kinship(given.run, folder, work), of_benchmark(model, folder, work)
            print(f"{'':24}{'Kinship':>12}{'CLIP_benchmark':>18}{'difference':>14}")
            for name in ours:
                difference = 100 * (theirs[name] - ours[name])
                worst = max(worst, abs(difference))
                print(f"{name:24}{100 * ours[name]:12.2f}{100 * theirs[name]:18.2f}{difference:14.2f}", flush=True)
            results.append({"kind": one.kind, "dataset": one.dataset, "images": folder.count, "kinship": ours,
                            "clip_benchmark": theirs})
    agrees = worst <= LIMIT
    print(f"\n{programs}: largest difference {worst:.2f} points (limit 0.1): {'agrees' if agrees else 'DIFFERS'}")
    if given.json:
        document = {"run": run.name, "step": run.step, "programs": programs, "largest_difference": worst,
                    "evaluations": results}
        publish(given.json, json.dumps(document, indent=2, sort_keys=True) + "\n")
    return 0 if agrees else 1


if __name__ == "__main__":
    run_program("clip-benchmark", main)
