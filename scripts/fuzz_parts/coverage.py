"""Readers under libFuzzer, which finds inputs by the code that they reach."""
import os
import shutil
import subprocess
from pathlib import Path

from command_line.program import ROOT
from command_line.refused import FAULTS, INTERNAL, Refused
import seeds

# Of each reader in C: what calls it, the folders of its sources and of sound files, and its libraries.
READERS_IN_C = {
    "images": (
        "Images.c", "Sources/CImage", "Tests/Fixtures/golden/preprocess/images", ["-ljpeg", "-lpng16", "-lwebp"])}
# Of each reader in Swift, as Tests/FuzzReaders calls it: the end of its files' names, and sound files, which are found
# among those that the other fuzz makes.
READERS_IN_SWIFT = {
    "dataset": (".json", ["dataset/corpus.json"]), "json": (".json", ["dataset/corpus.json", "model/*.json"]),
    "log": (".jsonl", ["runs/model/log.jsonl"]),
    "safetensors": (".safetensors", ["merged.safetensors"]), "sharded": (".index.json", ["**/*.index.json"]),
    "tar": (".tar", ["**/*.tar"]), "torch": (".pt", ["**/*.pt"])}
READERS = [*READERS_IN_C, *READERS_IN_SWIFT]
SECONDS = 3600
LIMITS = ["-timeout=20", "-rss_limit_mb=1024", "-max_len=65536", "-print_final_stats=1"]


def fuzz(reader: str, folder: Path, seconds: int, program: str) -> int:
    """Builds a reader, lets libFuzzer run it, and returns the exit code. Inputs with new coverage and those with faults
    are left in the folder. `program` makes the sound files with which a reader in Swift begins."""
    corpus = folder / "corpus"
    corpus.mkdir()
    if reader in READERS_IN_C:
        built, environment = in_c(reader, folder, corpus), os.environ
    else:
        built, environment = in_swift(reader, folder, corpus, program)
    ended = subprocess.run(
        [built, f"-max_total_time={seconds}", *LIMITS, f"-artifact_prefix={folder}/finding-", corpus],
        env=environment, check=False)
    print(f"fuzz: {reader} ended with {ended.returncode}; files in {folder}; again: {built} {folder}/finding-…"
          if ended.returncode else f"fuzz: {reader}: no finding in {seconds} s", flush=True)
    return FAULTS if ended.returncode else 0


def in_c(reader: str, folder: Path, corpus: Path) -> Path:
    caller, sources, sound, libraries = READERS_IN_C[reader]
    compiler, program = os.environ.get("CC") or "clang", folder / reader
    for file in sorted((ROOT / sound).iterdir()):
        shutil.copy(file, corpus)
    build = [
        compiler, "-O1", "-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=undefined",
        f"-I{ROOT / sources / 'include'}", *map(str, sorted((ROOT / sources).glob("*.c"))),
        str(Path(__file__).parent / caller), *libraries, "-o", str(program)]
    # The toolchain's linker; the system's may not know what the sanitizers export.
    if (linker := shutil.which("ld.lld")) and not os.environ.get("CC"):
        build.append(f"--ld-path={linker}")
    made(build, caller)
    return program


def in_swift(reader: str, folder: Path, corpus: Path, program: str):
    """Returns the program, and its environment."""
    ending, patterns = READERS_IN_SWIFT[reader]
    sound = folder / "sound"
    seeds.make(sound, program)
    found = [file for pattern in patterns for file in sorted(sound.glob(pattern))]
    if not found:
        raise Refused(f"no sound file of the reader {reader} is made", INTERNAL)
    for file in found:
        shutil.copy(file, corpus / f"{len(list(corpus.iterdir()))}{ending}")
        if reader == "sharded":
            # The index names files beside itself.
            for part in file.parent.glob("*.safetensors"):
                shutil.copy(part, folder)
    # In a folder of its own, because all that is built with the sanitizers differs.
    build = [
        "swift", "build", "--package-path", str(ROOT), "--scratch-path", str(ROOT / ".build-fuzz"), "--product",
        "FuzzReaders", "-Xswiftc", "-DFUZZING", "-Xswiftc", "-sanitize=fuzzer,address", "-Xswiftc", "-parse-as-library",
        "-Xswiftc", "-use-ld=lld"]
    made(build, "FuzzReaders")
    return ROOT / ".build-fuzz/debug/FuzzReaders", {
        **os.environ, "KINSHIP_READER": reader, "KINSHIP_FUZZ_FILE": str(folder / f"input{ending}"),
        # Swift's runtime keeps what it reads of types to the end.
        "ASAN_OPTIONS": "detect_leaks=0"}


def made(build: list[str], what: str):
    ended = subprocess.run(build, capture_output=True, text=True, errors="replace", check=False)
    if ended.returncode != 0:
        raise Refused(f"{build[0]} cannot build {what}: {(ended.stderr + ended.stdout).strip()[-2000:]}", INTERNAL)
