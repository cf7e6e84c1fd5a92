"""A job of the program under test: its processes, signals to them, and its end."""
import os
import re
import signal
import subprocess
import time
import uuid
from pathlib import Path

from command_line.program import SCRIPTS, exit_code, oversubscribed
from command_line.refused import STOPS as ALL_STOPS

# Signals that stop the kill test: with a rank's own.
STOPS = (*ALL_STOPS, signal.SIGUSR1)
# The environment variable with a job's mark, which launchers pass on.
MARK = "KINSHIP_KILL_TEST"
# Until all ranks have met they have more time, for nothing that they do counts as progress.
START_DEADLINES = 4
# Targets that are the process which was started.
LAUNCHERS = ("mpirun", "script")
# The seconds after which nobody is left who could notice that a rank is stopped, or that all ranks have ended.
GRACE = 10


class Hang(Exception):
    """A job that has not ended; its text says what the processes were doing."""


class Job:
    """Ranks of the program in a folder: one alone, several by mpirun or by the launch script. Leaving a `with` ends
    whatever is left of it."""

    def __init__(
            self, program: str, words, ranks: int, folder: Path, output: Path, deadline: float, by_script=False):
        self.ranks, self.mark = ranks, uuid.uuid4().hex
        self.output = output
        # Whether a rank has been there; whether mpirun itself failed: it crashed, or did not end when its ranks had.
        self.seen = self.mpirun_failed = False
        environment = {
            **os.environ, MARK: self.mark, "KINSHIP": program, "KINSHIP_WATCHDOG_DEADLINE": f"{deadline}",
            "KINSHIP_START_DEADLINE": f"{START_DEADLINES * deadline}"}
        # The search for fast networks, which these ranks do not use, takes half of the time of a small job.
        environment.setdefault("OMPI_MCA_pml", "ob1")
        launcher = oversubscribed(program, ranks)
        if by_script and ranks > 1:
            launcher = [str(SCRIPTS / "launch-mpirun"), "--ranks", str(ranks)]
        self.launcher, self.began = launcher[0], time.monotonic()
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [*launcher, *words], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        while found := self.processes():
            send(signal.SIGKILL, found)
            time.sleep(0.02)
        self.process.wait()

    def processes(self):
        """Returns the job's processes, and the rank of each that has one."""
        found, mark = {}, f"{MARK}={self.mark}".encode()
        for number in filter(str.isdigit, os.listdir("/proc")):
            try:
                entries = Path("/proc", number, "environ").read_bytes().split(b"\0")
            except OSError:
                # It has ended, or is another user's.
                continue
            if mark in entries:
                own = [entry for entry in entries if entry.startswith(b"OMPI_COMM_WORLD_RANK=")]
                found[int(number)] = int(own[0].partition(b"=")[2]) if own else 0 if self.ranks == 1 else None
        self.seen |= any(rank is not None for rank in found.values())
        return found

    def targets(self, name: str):
        """Returns the processes that a target stands for; none until all of them are there."""
        if name in LAUNCHERS:
            return [self.process.pid]
        by_rank = {}
        # A process that a rank has started has the rank's environment, and came later.
        for process, rank in sorted(self.processes().items()):
            by_rank.setdefault(rank, process)
        wanted = range(self.ranks) if name == "job" else [int(name.removeprefix("rank-"))]
        return [by_rank[rank] for rank in wanted] if all(rank in by_rank for rank in wanted) else []

    def wait_for(self, moment: float, target: str):
        """Returns the target's processes at a moment in seconds after the start, or as soon as they are there; none if
        the job ends before."""
        while self.process.poll() is None:
            left = self.began + moment - time.monotonic()
            if left <= 0 and (found := self.targets(target)):
                return found
            time.sleep(min(max(left, 0.002), 0.02))
        return []

    def end(self, limit: float) -> int:
        """Waits until no process is left, and returns the exit code as a shell gives it.

        A rank that was stopped when all others had ended goes on: no rank is left that could notice. The mpirun of Open
        MPI 4.1.4 may miss the end of its last rank, and is then ended here, as scripts/launch-mpirun does; and it may
        crash while it reports how the job has ended. Each was seen once in some hundreds of kills."""
        began = alone = time.monotonic()
        while self.process.poll() is None or self.processes():
            now, found = time.monotonic(), self.processes()
            if now >= began + limit:
                raise Hang(f"has not ended after {limit:.0f} s: {'; '.join(map(state, found))}")
            ranks = [process for process, rank in found.items() if rank is not None]
            if not self.seen or any(" T " not in state(process) for process in ranks):
                alone = now
            elif now >= alone + GRACE and ranks:
                send(signal.SIGCONT, ranks)
            elif now >= alone + GRACE and self.launcher == "mpirun":
                self.mpirun_failed = True
                send(signal.SIGKILL, found)
            time.sleep(0.05)
        crash = f":{self.process.pid}] *** Process received signal ***"
        if self.launcher == "mpirun" and crash in self.output.read_text("utf-8", "replace"):
            self.mpirun_failed = True
        return exit_code(self.process.returncode)


def send(number: int, processes):
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            pass


def hears(process: int, number: int) -> bool:
    """Returns whether a process handles a signal or holds it back, or should: no program can while it is being loaded,
    but it has begun when Open MPI has loaded its components."""
    try:
        status = Path(f"/proc/{process}/status").read_text("utf-8")
        masks = re.findall(r"^Sig(?:Cgt|Blk):\s*(\w+)", status, re.MULTILINE)
        if any(int(mask, 16) >> (number - 1) & 1 for mask in masks):
            return True
        return b"/mca_" in Path(f"/proc/{process}/maps").read_bytes()
    except OSError:
        return False


def state(process: int) -> str:
    try:
        folder = Path(f"/proc/{process}")
        words = folder.joinpath("cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
        found = re.search(r"^State:\s*(.+)$", folder.joinpath("status").read_text("utf-8"), re.MULTILINE)
        return f"{Path(words).name} {process} is in state {found[1]}, {folder.joinpath('wchan').read_text('utf-8')}"
    except (OSError, TypeError):
        return f"{process} has just ended"
