"""The program kinship: where it is, how it is started on ranks, and how a command is run to its end."""
import os
import subprocess
from pathlib import Path

from command_line.refused import Refused

SCRIPTS = Path(__file__).resolve().parent.parent
ROOT = SCRIPTS.parent
# A command that was told to stop may have a checkpoint to write.
SECONDS_TO_STOP = 60


def kinship(named=None) -> str:
    """Returns the path of the program: the one that is named, or that of the variable KINSHIP, or of the installed
    package that these scripts belong to, or the release build of this package. It need not be there."""
    return os.path.abspath(named or os.environ.get("KINSHIP") or (
        ROOT / ".build/release/kinship" if (ROOT / "Package.swift").exists() else ROOT.parent.parent / "bin/kinship"))


def required(named=None, option: str = "") -> str:
    """Returns the same, if it can be started. `option` is the option that names another one."""
    program = kinship(named)
    if not os.path.isfile(program) or not os.access(program, os.X_OK):
        raise Refused(
            f"no program at {program}; build it with: swift build -c release, or name another one with"
            f" {f'{option} or ' if option else ''}KINSHIP")
    return program


def on_ranks(program: str, ranks: int, threads=None):
    """Returns the words that start the program on ranks, before its own words. Ranks are bound to cores, of which each
    gets its share, or `threads`; where there are fewer cores than ranks, they share them, unbound."""
    cores = len(os.sched_getaffinity(0))
    if threads is None and ranks > cores:
        return oversubscribed(program, ranks)
    # launch-mpirun starts what KINSHIP names.
    launcher = ["env", f"KINSHIP={program}", str(SCRIPTS / "launch-mpirun")]
    return [*launcher, "--ranks", str(ranks), "--threads", str(threads or cores // ranks)]


def oversubscribed(program: str, ranks: int):
    """Returns the words that start the program on ranks that share the cores, unbound; one rank needs no mpirun."""
    return ["mpirun", "--oversubscribe", "-n", str(ranks), program] if ranks > 1 else [program]


def execute(command, core=None, **options) -> subprocess.CompletedProcess:
    """Runs a command to its end as subprocess.run does, on one core if that is given. If this process is stopped
    meanwhile, the command is told to stop as well, and has ended when the error leaves this function."""
    words = [str(word) for word in command]
    bind = None if core is None else (lambda: os.sched_setaffinity(0, {core}))
    process = subprocess.Popen(words, preexec_fn=bind, **options)
    try:
        output, errors = process.communicate()
    except BaseException:
        process.terminate()
        try:
            process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    return subprocess.CompletedProcess(words, exit_code(process.returncode), output, errors)


def exit_code(returned: int) -> int:
    """Returns the exit code of a process as a shell has it: 128 and the number of the signal that has ended it."""
    return returned if returned >= 0 else 128 - returned
