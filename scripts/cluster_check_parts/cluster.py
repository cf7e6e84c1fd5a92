"""Commands of the program: alone on one core, and on the hosts of a virtual cluster."""
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from command_line.program import SCRIPTS, execute
from command_line.refused import INTERNAL, USAGE, Refused

RECIPE = SCRIPTS / "recipes/cluster/check.yaml"
# What ranks on other hosts need of the environment.
TRAVELS = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "SWIFT_BACKTRACE")


@dataclass
class Hosts:
    """Hosts with as many ranks each. All share this machine's cores."""
    count: int
    slots: int = 1
    bandwidth: str = ""

    @property
    def ranks(self) -> int:
        return self.count * self.slots

    def __str__(self):
        each = "1 rank" if self.slots == 1 else f"{self.slots} ranks"
        return f"{self.count} hosts of {each}" + (f", {self.bandwidth}" if self.bandwidth else "")


class Runner:
    """Starts commands one after another in a folder, and keeps what they print in files there."""

    def __init__(self, program: str, folder: Path, settings):
        self.program, self.folder, self.own = program, folder, settings
        self.number = 0

    def settings(self, *values):
        """The paths of what `scene.make` makes, the values of the command line, and these, which hold."""
        folder = self.folder
        first = (
            f"output={folder}/runs", f"data.datasets=[{folder}/drawings]", f"vocabulary={folder}/vocabulary.txt.gz",
            f"teacher.model={folder}/runs/teacher", f"teacher.cache={folder}/cache", "precision=fp32")
        return sets(*first, *self.own, *values)

    def alone(self, *words) -> str:
        """Runs the program as one rank on one core, as a rank of the hosts has it; returns what it prints."""
        core = min(os.sched_getaffinity(0))
        return self.execute(["taskset", "--cpu-list", str(core), self.program, *words], {})

    def on(self, hosts: Hosts, *words, script='"$@"') -> str:
        """Runs the program on all ranks of the hosts. `script` is what their head does; the job's words are "$@"."""
        slots = ["--slots", str(hosts.slots)]
        narrow = ["--bandwidth", hosts.bandwidth] if hosts.bandwidth else []
        job = [str(SCRIPTS / "launch-mpirun"), "--ranks", str(hosts.ranks), *words]
        carried = [f"-x {name}" for name in TRAVELS if os.environ.get(name)]
        environment = {
            "KINSHIP": self.program, "VIRTUAL_CLUSTER": str(SCRIPTS / "virtual-cluster"),
            # Ranks outnumber cores: they are bound to none, and leave the core to others while they wait.
            "OMPI_MCA_mpi_yield_when_idle": "1", "MPIRUN_FLAGS": " ".join(["--map-by slot", *carried]),
            # All start at once on few cores.
            "KINSHIP_START_DEADLINE": "600"}
        return self.execute(
            [environment["VIRTUAL_CLUSTER"], str(hosts.count), *slots, *narrow,
             "bash", "-euo", "pipefail", "-c", script, "bash", *job], environment)

    def execute(self, command, environment) -> str:
        self.number += 1
        output = self.folder / f"output-{self.number}"
        with open(f"{output}.txt", "wb") as file, open(f"{output}.errors.txt", "wb") as errors:
            code = execute(
                command, cwd=self.folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=file,
                stderr=errors).returncode
        if code != 0:
            words = Path(f"{output}.errors.txt").read_text("utf-8", "replace").strip().splitlines()[-3:]
            cannot = code == USAGE and any(word.startswith("virtual-cluster: ") for word in words)
            raise Refused(
                f"{' '.join(words) or 'no message'} (exit code {code}; {output}.txt and .errors.txt have all of it)",
                USAGE if cannot else INTERNAL)
        return Path(f"{output}.txt").read_text("utf-8", "replace")


def sets(*values):
    return [word for value in values for word in ("--set", value)]
