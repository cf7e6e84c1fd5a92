"""One exported form of a model: Kinship's own or ONNX, with its figures in the words of exports.json."""
import json
import subprocess
from pathlib import Path

from command_line.program import execute
from command_line.refused import INTERNAL, Refused

FIGURES = {"retrieval": {"i2t R@1": ("image_to_text", "R@1"), "t2i R@1": ("text_to_image", "R@1")},
           "zero-shot": {"top-1": ("top1",)}}


class Form:
    def __init__(self, name: str, is_teacher: bool):
        self.name, self.figures = name, {"name": name, "teacher": is_teacher, "accuracy": {}}


class OwnForm(Form):
    """Safetensors in fp32 that Kinship runs."""

    def __init__(self, name, model, kinship, folder: Path, options=(), is_teacher=False):
        super().__init__(name, is_teacher)
        self.kinship, self.folder, self.evaluate_options = kinship, folder, None
        kinship.run("weights", "export", model, *options, "--form", "open_clip", "--output", folder)

    def measure(self, given, _):
        words = ["inference", "--checkpoint", self.folder, "--repetitions", given.repetitions, "--seconds",
                 given.seconds, "--batch", given.batch]
        if given.caption_tokens:
            words += ["--caption-tokens", given.caption_tokens]
        self.report = self.kinship.report(*words, "--measure", "latency", core=given.core)
        rates = self.kinship.report(*words, "--measure", "throughput")
        self.cores = rates["threads"]
        if self.report["threads"] != 1:
            raise Refused(f"latencies were measured with {self.report['threads']} threads on one core", INTERNAL)
        self.figures.update(
            program=f"Kinship {self.kinship.run('--version').strip()}",
            bytes=(self.folder / "open_clip_model.safetensors").stat().st_size,
            **{key: self.report[key] for key in ("peak_bytes", "image_ms", "caption_ms")},
            **{key: rates[key] for key in ("images_per_s", "captions_per_s")})

    def evaluate(self, evaluations, work: Path):
        if self.evaluate_options is None:
            return
        for one in evaluations:
            file = work / "figures.json"
            self.kinship.run("evaluate", *one.options(), *self.evaluate_options, "--json", file)
            found = json.loads(file.read_text("utf-8"))
            one.title = title(found)
            accuracy = {}
            for name, path in FIGURES[one.kind].items():
                value = found
                for key in path:
                    value = value[key]
                accuracy[name] = value
            self.figures["accuracy"][one.title] = accuracy


def title(found: dict) -> str:
    """The evaluation's name in the run's log."""
    if found["kind"] == "zero-shot":
        among = "" if found["classes"] == found["of_classes"] else f" among {found['classes']}"
        return f"zero-shot {found['corpus']}{among}"
    first = " first" if found["captions_taken"] == "first" else ""
    return f"retrieval {found['corpus']}{first}" + (" strict" if found["duplicates"] == "strict" else "")


class OnnxForm(Form):
    """ONNX models that onnxruntime runs, in a Python that has it."""

    def __init__(self, name, model, kind, kinship, python: str, folder: Path):
        super().__init__(name, False)
        self.python, self.folder, self.environment = python, folder, kinship.environment
        kinship.run("weights", "export", model, "--form", "onnx", "--type", kind, "--output", folder)

    def run(self, *words, core=None) -> dict:
        command = [self.python, "-B", Path(__file__).resolve().parent / "onnx_form.py", *words]
        done = execute(command, core, stdout=subprocess.PIPE, encoding="utf-8", env=self.environment)
        if done.returncode:
            raise Refused(f"onnxruntime ({words[0]} of {self.name}) ended with {done.returncode}", INTERNAL)
        return json.loads(done.stdout.splitlines()[-1])

    def measure(self, given, own):
        """Measures under the conditions of Kinship's own form."""
        self.cores = own.cores
        # The tokenizer's last id ends a text. It is read here, so that the form's process holds nothing else.
        tokenizer = json.loads((self.folder / "tokenizer.json").read_text("utf-8"))
        end = max(token["id"] for token in tokenizer["added_tokens"])
        common = [self.folder, "--batch", given.batch, "--seconds", given.seconds, "--repetitions", given.repetitions,
                  "--caption-tokens", own.report["caption_tokens"], "--end-id", end]
        found = self.run("latency", *common, "--threads", 1, core=given.core)
        found.update(self.run("throughput", *common, "--threads", own.cores))
        # Weights of over 256 MiB lie in files beside the models.
        weights = [file for file in self.folder.iterdir() if file.name.startswith(("visual.", "textual."))]
        self.figures.update(found, bytes=sum(file.stat().st_size for file in weights))

    def evaluate(self, evaluations, work: Path):
        file = work / "evaluations.json"
        file.write_text(json.dumps([vars(one) for one in evaluations]), "utf-8")
        self.figures["accuracy"] = self.run("accuracy", self.folder, "--threads", self.cores, "--evaluations", file)
