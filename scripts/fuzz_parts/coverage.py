"""Readers in C under libFuzzer, which finds inputs by the code that they reach."""
import os
import shutil
import subprocess
from pathlib import Path

from refused import FAULTS, INTERNAL, Refused

ROOT = Path(__file__).resolve().parent.parent.parent
# Of each reader: what calls it, the folders of its sources and of sound files, and its libraries.
READERS = {
    "images": (
        "Images.c", "Sources/CImage", "Tests/Fixtures/golden/preprocess/images", ["-ljpeg", "-lpng16", "-lwebp"])}
SECONDS = 3600


def fuzz(reader: str, folder: Path, seconds: int) -> int:
    """Builds a reader, lets libFuzzer run it, and returns the exit code. Inputs with new coverage and those with faults
    are left in the folder."""
    caller, sources, sound, libraries = READERS[reader]
    compiler, program = os.environ.get("CC") or "clang", folder / reader
    corpus = folder / "corpus"
    corpus.mkdir()
    for file in sorted((ROOT / sound).iterdir()):
        shutil.copy(file, corpus)
    build = [
        compiler, "-O1", "-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=undefined",
        f"-I{ROOT / sources / 'include'}", *map(str, sorted((ROOT / sources).glob("*.c"))),
        str(Path(__file__).parent / caller), *libraries, "-o", str(program)]
    # The toolchain's linker; the system's may not know what the sanitizers export.
    if (linker := shutil.which("ld.lld")) and not os.environ.get("CC"):
        build.append(f"--ld-path={linker}")
    made = subprocess.run(build, capture_output=True, text=True, errors="replace", check=False)
    if made.returncode != 0:
        raise Refused(f"{compiler} cannot build {caller}: {made.stderr.strip()}", INTERNAL)
    ended = subprocess.run(
        [program, f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=1024", "-max_len=65536",
         "-print_final_stats=1", f"-artifact_prefix={folder}/finding-", corpus], check=False)
    print(f"fuzz: {reader} ended with {ended.returncode}; files in {folder}; again: {program} {folder}/finding-…"
          if ended.returncode else f"fuzz: {reader}: no finding in {seconds} s", flush=True)
    return FAULTS if ended.returncode else 0
