"""One input: sound files of one kind, some of them changed, what the commands make of them, and the verdict."""
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from formats import MUTATORS
from kinds import KINDS

MEBI = 1 << 20
# What a command may need beside its files, and for each of their bytes.
MEMORY, MEMORY_PER_BYTE = 768 * MEBI, 64
# What no process gets: address space, and the size of a file that it writes.
ADDRESSES, FILE_SIZE = 4096 * MEBI, 1024 * MEBI
# The codes that a file's contents may lead to; the others of `ExitStatus` are about the program or the machine.
CODES = {0, 64, 65, 74, 76}
CRASHES = re.compile(r"Fatal error|[Pp]recondition failed|\*\*\* .*(?:crashed|signal)|Sanitizer|stack smashing")
ENVIRONMENT = {
    "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "SWIFT_BACKTRACE": "enable=no", "OMPI_MCA_pml": "ob1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}
INHERITED = ("PATH", "HOME", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "KINSHIP")


@dataclass
class End:
    """The end of a command: an exit code, or a signal below zero; None if it had to be ended."""
    code: int | None
    seconds: float
    memory: int
    output: str
    errors: str


@dataclass
class Outcome:
    number: int
    kind: str
    change: str
    codes: list
    seconds: float
    memory: int
    # What is wrong, and the last line on standard error.
    verdict: str = ""
    words: str = ""


def special(chance, path: Path):
    """Puts something in a file's place that is no such file, and returns what."""
    path.unlink()
    kind = chance.choice(("missing", "empty", "folder", "pipe", "endless", "loop"))
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path.name)
    return kind


def copied(scene: Path, folder: Path, kind, chance):
    """Copies the files of a kind into an input's folder, and returns those that may be changed with their formats."""
    found = {path: form for pattern, form in kind.inputs.items() for path in sorted(scene.glob(pattern))}
    needed = [path for pattern in kind.others for path in scene.glob(pattern)]
    if kind.name in ("image", "one-image"):
        # One of them, so that the verdict is about it.
        found = dict([chance.choice(list(found.items()))])
    for path in dict.fromkeys([*found, *needed]):
        target = folder / path.relative_to(scene)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return found


def changed(scene: Path, folder: Path, kind, chance):
    """Makes an input in a folder, and returns the paths that were changed with the change in words."""
    found, changes = copied(scene, folder, kind, chance), {}
    for path in chance.sample(list(found), min(len(found), chance.choice((1, 1, 1, 2)))):
        target = folder / path.relative_to(scene)
        if chance.random() < 0.03:
            changes[target] = [special(chance, target)]
            continue
        form = found[path] if path.suffix != ".h5" else "hdf5"
        sound = data = path.read_bytes()
        names, wanted = [], chance.choice((1, 1, 2, 4))
        while len(names) < wanted or data == sound and len(names) < 20:
            if chance.random() < 0.02:
                # The contents of any other sound file.
                other = chance.choice(sorted(one for one in scene.rglob("*") if one.is_file()))
                data, name = other.read_bytes(), other.name
            else:
                mutator = chance.choice(MUTATORS[form])
                data, name = mutator(chance, data), mutator.__name__
            names.append(name)
        target.write_bytes(data)
        changes[target] = names
    if kind.renewed and not any(path.is_symlink() or not path.is_file() for path in changes):
        kind.seal.renew(folder)
    words = "; ".join(f"{path.relative_to(folder)}: {', '.join(names)}" for path, names in changes.items())
    return list(changes), words


def limits(deadline: float):
    """Limits what the process can do that is about to become a command, and gives it the signals' own meanings."""
    for name, value in (
        (resource.RLIMIT_AS, ADDRESSES), (resource.RLIMIT_FSIZE, FILE_SIZE), (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, int(deadline) + 1),
    ):
        resource.setrlimit(name, (value, value))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


def run(program: str, words, folder: Path, deadline: float, name: str) -> End:
    """Runs a command in a folder until it ends, or until the deadline."""
    environment = {**ENVIRONMENT, **{key: os.environ[key] for key in INHERITED if key in os.environ}}
    environment["TMPDIR"] = str(folder)
    files = [folder.parent / f"{folder.name}-{name}.{end}" for end in ("output", "errors")]
    began = time.monotonic()
    with files[0].open("wb") as output, files[1].open("wb") as errors:
        process = subprocess.Popen(
            [program, *words], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
            start_new_session=True, preexec_fn=lambda: limits(deadline))
    late = False
    while True:
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() - began >= deadline and not late:
            late = True
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.002)
    # So that the object does not wait for what has ended.
    process.returncode = os.waitstatus_to_exitcode(status)
    late = late or process.returncode == -signal.SIGXCPU
    texts = [file.open("rb").read(MEBI).decode("utf-8", "replace") for file in files]
    for file in files:
        file.unlink()
    return End(None if late else process.returncode, time.monotonic() - began, usage.ru_maxrss * 1024, *texts)


def fault(end: End, names, room: int) -> str:
    """Returns what is wrong with a command's end, whatever it read; empty if nothing is. A refusal must have one of the
    names, if there are any."""
    words = end.output + end.errors
    if end.code is None:
        return "hangs"
    if end.code < 0:
        return f"was killed by {signal.Signals(-end.code).name}"
    if end.code not in CODES:
        return f"ended with {end.code}"
    if CRASHES.search(end.errors):
        return "wrote the words of a crash"
    if end.memory > room:
        return f"took {end.memory // MEBI} MiB of memory, more than {room // MEBI} MiB"
    if names and end.code in (65, 74) and not any(name in words for name in names):
        return "did not name the file"
    return "ended without a message" if end.code and not end.errors.strip() else ""


def refusal(program: str, scene: Path, folder: Path, name: str, deadline: float) -> str:
    """Returns what the commands of a kind say against its sound files; empty if they accept them."""
    copied(scene, folder, KINDS[name], random.Random(name))
    for words in KINDS[name].commands:
        end = run(program, words, folder, deadline, "sound")
        if end.code != 0:
            return f"{' '.join(words)} ended with {end.code}: {end.errors.strip() or end.output.strip()}"
    return KINDS[name].seal and KINDS[name].seal.broken(folder) or ""


def judged(program: str, scene: Path, folder: Path, number: int, given) -> Outcome:
    """Makes an input in a folder, runs its commands, and returns the outcome. The same seed, number and names of kinds
    make the same input."""
    chance = random.Random(f"{given.seed} {number}")
    kind = KINDS[given.kinds[number % len(given.kinds)]]
    paths, change = changed(scene, folder, kind, chance)
    # A changed file's own name, that of its folder, or those that the command line gives.
    known = {path.name for path in paths} | {path.parent.name for path in paths if path.parent != folder}
    known |= {word for words in kind.commands for word in words if (folder / word).exists()}
    known = known if given.names else set()
    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    room = MEMORY + MEMORY_PER_BYTE * size
    broken = kind.seal.broken(folder) if kind.seal else None
    outcome = Outcome(number, kind.name, change, [], 0.0, 0)
    for index, words in enumerate(kind.commands):
        end = run(program, words, folder, given.deadline, f"{index}")
        outcome.codes.append(end.code)
        outcome.seconds, outcome.memory = max(outcome.seconds, end.seconds), max(outcome.memory, end.memory)
        outcome.verdict = fault(end, known, room)
        if not outcome.verdict and end.code == 0 and index == 0 and broken:
            outcome.verdict = f"accepted although {broken}"
        if not outcome.verdict and end.code != 0 and index > 0 and kind.agree:
            outcome.verdict = f"{words[0]} {words[1]} refused what {' '.join(kind.commands[0][:2])} accepted"
        if outcome.verdict:
            lines = end.errors.strip().splitlines() or end.output.strip().splitlines()
            outcome.words = lines[-1][:500] if lines else ""
            outcome.verdict = f"{' '.join(words[:2])} {outcome.verdict}"
        # The second command of a pair reads what the first one has accepted.
        if outcome.verdict or (kind.agree and end.code != 0):
            break
    return outcome
