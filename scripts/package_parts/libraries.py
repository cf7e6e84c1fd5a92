"""Puts the libraries of the packaged programs beside them.

    python3 libraries.py PREFIX

The programs are PREFIX/libexec/kinship/LEVEL/kinship. What they load goes to PREFIX/lib/kinship, but for the libraries
that stay the site's: those of glibc, of the compiler's C and C++ runtime, and of MPI with all that only MPI needs. Each
gets a name of its own, with the first digits of its SHA-256, so that MPI and its plugins still load the site's library
where both have one of the same name, and never the package's. The path to them is written into programs and libraries
as DT_RPATH, which the loader follows before LD_LIBRARY_PATH: that variable often leads to other releases on clusters.

The licence of each library goes to PREFIX/share/doc/kinship/licenses, from the Debian package that it belongs to.

The libraries are those that the loader finds on this machine. Needs patchelf, ldd and dpkg-query.
"""
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

# The policy of PyPA's manylinux wheels counts these as parts of every system. A second, older copy of the C++ runtime
# would also be the one that the plugins of the site's MPI get.
SYSTEM = re.compile(
    r"(ld-linux-x86-64|libc|libm|libdl|libpthread|librt|libutil|libresolv|libstdc\+\+|libgcc_s)\.so(\.\d+)*")
MPI = re.compile(r"libmpi\.so(\.\d+)*")


def output(*command) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def needed(file: Path):
    return output("patchelf", "--print-needed", file).split()


def found_by_loader(program: Path):
    """The files that the loader takes for a program's libraries, and for those of its libraries, by their names."""
    paths = {}
    for line in output("ldd", program).splitlines():
        if found := re.match(r"\s*(\S+) => (/\S+)", line):
            paths[found[1]] = Path(found[2]).resolve()
        elif missing := re.match(r"\s*(\S+) => not found", line):
            sys.exit(f"package: {program} needs {missing[1]}, which this machine does not have; source scripts/setup")
    return paths


def wanted(program: Path, paths):
    """The libraries to be packaged, by the names under which they are needed."""
    libraries, open_files = {}, [program]
    while open_files:
        for name in needed(open_files.pop()):
            if name in libraries or SYSTEM.fullmatch(name) or MPI.fullmatch(name):
                continue
            libraries[name] = paths[name]
            open_files.append(paths[name])
    return libraries


def own_name(name: str, file: Path) -> str:
    """libcrypto.so.3 becomes libcrypto-1a2b3c4d.so.3."""
    stem, suffix = name.split(".so", 1)
    return f"{stem}-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.so{suffix}"


def patch(file: Path, names, rpath: str, soname=None) -> None:
    options = ["--force-rpath", "--set-rpath", rpath]
    for name in needed(file):
        if name in names:
            options += ["--replace-needed", name, names[name]]
    if soname:
        options += ["--set-soname", soname]
    subprocess.run(["patchelf", *options, file], check=True)


def debian_package(file: Path) -> str:
    # Where /lib is a link to /usr/lib, packages may have their files under either.
    for name in (file, str(file).removeprefix("/usr")):
        found = subprocess.run(["dpkg-query", "--search", str(name)], capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.split(":")[0]
    sys.exit(f"package: {file} belongs to no Debian package, and its licence is not known; source scripts/setup")


def copy_licence(file: Path, licences: Path) -> None:
    package = debian_package(file)
    source = Path("/usr/share/doc") / package / "copyright"
    if not source.exists():
        sys.exit(f"package: {package} has no {source}, and its licence must be in the package")
    shutil.copyfile(source.resolve(), licences / package)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: libraries.py PREFIX")
    prefix = Path(sys.argv[1])
    folder, licences = prefix / "lib/kinship", prefix / "share/doc/kinship/licenses"
    for new in (folder, licences):
        new.mkdir(parents=True, exist_ok=True)
    programs = sorted((prefix / "libexec/kinship").glob("*/kinship"))
    if not programs:
        sys.exit(f"package: there is no program in {prefix}/libexec/kinship")
    libraries = {}
    for program in programs:
        libraries.update(wanted(program, found_by_loader(program)))
    names = {name: own_name(name, file) for name, file in libraries.items()}
    for name, file in libraries.items():
        copy = folder / names[name]
        shutil.copyfile(file, copy)
        copy.chmod(0o755)
        patch(copy, names, "$ORIGIN", names[name])
        copy_licence(file, licences)
    for program in programs:
        patch(program, names, "$ORIGIN/../../../lib/kinship")
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(f"package: {len(libraries)} libraries, {size:.0f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
