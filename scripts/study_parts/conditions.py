"""What must be the same for all arms of a seed: the program's sources, the teacher and the processor."""
import hashlib
import os
import re
import subprocess
from pathlib import Path


def weights(path: Path) -> Path:
    return path / "open_clip_model.safetensors"


def digest(path: Path) -> str:
    """The SHA-256 of a model's file, or of all files of a checkpoint in the order of their names."""
    files = [path] if path.is_file() else [weights(path)] if weights(path).is_file() else sorted(
        file for file in path.rglob("*") if file.is_file())
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as bytes_of:
            while part := bytes_of.read(1 << 20):
                total.update(part)
    return total.hexdigest()


def conditions(teacher):
    """What must be the same for all arms of a seed."""
    return {"commit": commit(), "teacher": digest(teacher) if teacher else "none", "processor": processor()}


def commit() -> str:
    """The last commit of the program's sources, and a mark of what was changed since. The results themselves may be
    committed while a study runs."""
    def git(*words):
        return subprocess.run(
            ["git", *words, "--", "Sources", "Package.swift"], capture_output=True, encoding="utf-8", errors="replace",
            check=False).stdout
    found = git("log", "-1", "--format=%h").strip()
    changes = git("diff", "HEAD") + git("ls-files", "--others", "--exclude-standard")
    return (found or "unknown") + (f"+{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else "")


def processor() -> str:
    name = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    return f"{len(os.sched_getaffinity(0))} cores of {name[1].strip() if name else os.uname().machine}"
