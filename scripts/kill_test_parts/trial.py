"""One kill: a job that is disturbed, and what comes of it."""
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from command_line.refused import INTERNAL, TRY_AGAIN, Refused
from commands import Command
from job import LAUNCHERS, Hang, Job, hears, send

SIGNALS = ("KILL", "STOP", "CONT", "TERM", "INT", "HUP", "USR1")
# Of the program: no progress. Of the launcher: a rank was killed.
STALLED, KILLED = 77, 137


@dataclass
class Kill:
    command: Command
    ranks: int
    signal: str
    target: str
    # A share of the undisturbed time, or seconds.
    moment: float
    in_seconds: bool = False

    def __str__(self):
        moment = f"{self.moment} s" if self.in_seconds else f"{self.moment} of its time"
        return f"{self.command.name} on {counted(self.ranks, 'rank')}, {self.signal} to {self.target} at {moment}"

    @property
    def options(self) -> str:
        """The options of scripts/kill-test that choose this kill alone."""
        return (
            f"--kills 1 --commands {self.command.name} --ranks {self.ranks} --signals {self.signal} --targets"
            f" {self.target} --moments {self.moment}{'s' if self.in_seconds else ''}")

    @property
    def number(self) -> int:
        """The signal that is sent first."""
        return signal.SIGSTOP if self.signal == "CONT" else signal.Signals[f"SIG{self.signal}"]

    def codes(self, heard: bool):
        """Returns the exit codes of a job that this kill ends. `heard`: the ranks had their handlers already."""
        if self.signal in ("KILL", "STOP", "CONT"):
            return {"KILL": {KILLED}, "STOP": {STALLED}, "CONT": set()}[self.signal]
        # The launch script tells mpirun USR1, whatever it is told.
        died = {128 + self.number, *({128 + signal.SIGUSR1} if self.target == "script" else ())}
        if self.target == "mpirun" and self.signal != "USR1":
            # It kills its ranks a second later, with a code of its own unless one of them had another.
            return {1, TRY_AGAIN, KILLED, *(128 + number for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))}
        return {TRY_AGAIN} if self.command.saves and heard else {TRY_AGAIN, *died}


@dataclass
class Outcome:
    # How the disturbed job ended, and how many seconds after the signal; no code if it had to be ended.
    code: int | None = None
    seconds: float = 0.0
    # Whether the job had ended before the signal, and whether it was started again.
    late: bool = False
    again: bool = False
    # Whether mpirun itself failed: it crashed, or did not end when its ranks had. Its code says nothing then.
    mpirun_failed: bool = False
    faults: list = field(default_factory=list)


class Trials:
    def __init__(self, program: str, folder: Path, deadline: float):
        self.program, self.folder, self.deadline = program, folder, deadline
        self.known = {}

    def job(self, command: Command, ranks: int, folder: Path, output: Path, by_script=False) -> Job:
        return Job(self.program, command.words, ranks, folder, output, self.deadline, by_script)

    def undisturbed(self, command: Command, ranks: int):
        """Returns the seconds that a command takes when nothing happens to it, and what it leaves."""
        if (command.name, ranks) not in self.known:
            folder = self.folder / f"undisturbed-{command.name}-{ranks}"
            command.prepare(folder)
            output = folder / "undisturbed.txt"
            with self.job(command, ranks, folder, output) as job:
                try:
                    end = f"ended with {job.end(600)}"
                except Hang as hang:
                    end = f"{hang}"
                seconds = time.monotonic() - job.began
            left = command.left(folder)
            if end != "ended with 0" or not left:
                raise Refused(f"{command.name} on {counted(ranks, 'rank')}, undisturbed: {end}; see {output}", INTERNAL)
            self.known[command.name, ranks] = seconds, left
        return self.known[command.name, ranks]

    def run(self, kill: Kill, folder: Path) -> Outcome:
        command, outcome = kill.command, Outcome()
        seconds, whole = self.undisturbed(command, kill.ranks)
        # Until the first step the watchdog waits for ten deadlines; then all ranks report, and are given time to end.
        limit = 10 * seconds + 12 * self.deadline + 30
        command.prepare(folder)
        try:
            by_script = kill.target == "script"
            with self.job(command, kill.ranks, folder, folder / "disturbed.txt", by_script) as job:
                heard = self.disturb(job, kill, kill.moment if kill.in_seconds else kill.moment * seconds)
                struck = time.monotonic()
                outcome.late = heard is None
                outcome.code = job.end(limit)
                outcome.seconds = time.monotonic() - struck
                outcome.mpirun_failed = job.mpirun_failed
            differing = self.judge(kill, outcome, heard, folder, whole)
            if outcome.code == 0 or command.once and not differing:
                return outcome
            outcome.again = True
            with self.job(command, kill.ranks, folder, folder / "again.txt") as job:
                code = job.end(limit)
            differing = differences(command, folder, whole)
            if code != 0:
                outcome.faults.append(f"ended with {code} when it was started again")
            elif differing:
                outcome.faults.append(f"was started again and left other bytes: {differing}")
        except Hang as hang:
            outcome.faults.append(f"{'started again, it ' if outcome.again else ''}{hang}")
        return outcome

    def disturb(self, job: Job, kill: Kill, moment: float):
        """Sends the signal. Returns whether whoever gets it had a handler for it, or should have had one; None if the
        job had ended before."""
        targets = job.wait_for(moment, kill.target)
        if not targets:
            return None
        heard = all(hears(process, kill.number) for process in targets)
        if kill.target in LAUNCHERS:
            # It passes USR1 on to the ranks.
            ranks = job.targets("job")
            heard = heard and bool(ranks) and all(hears(process, signal.SIGUSR1) for process in ranks)
        send(kill.number, targets)
        if kill.signal == "CONT":
            time.sleep(self.deadline / 2)
            send(signal.SIGCONT, set(targets) & set(job.processes()))
        return heard

    def judge(self, kill: Kill, outcome: Outcome, heard, folder: Path, whole) -> str:
        """Adds the faults of the disturbed job, and returns how what it left differs from the whole."""
        command, code, faults = kill.command, outcome.code, outcome.faults
        allowed = {0} | (set() if heard is None else kill.codes(heard))
        if code not in allowed and not outcome.mpirun_failed:
            faults.append(f"ended with {code}, expected {' or '.join(map(str, sorted(allowed)))}")
        faults += command.damaged(folder, whole)
        if code == TRY_AGAIN:
            faults += command.unsaved(folder)
        differing = differences(command, folder, whole)
        if code == 0 and differing:
            faults.append(f"ended with 0 and left other bytes: {differing}")
        return differing


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def differences(command: Command, folder: Path, whole) -> str:
    """Returns the names of what differs from what an undisturbed job leaves, the first few of them."""
    found = command.left(folder)
    names = sorted(name for name in found | whole if found.get(name) != whole.get(name))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
