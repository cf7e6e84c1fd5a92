"""Copies the licences of what is linked into the packaged programs. (libraries.py copies those of the libraries.)

    python3 licences.py PREFIX BUILD TOOLCHAIN MANIFEST

BUILD is the scratch folder of the program's build, which has the list of the linked files and the sources of other
packages; TOOLCHAIN holds Swift's own licence; MANIFEST is Package.swift, whose targets are the package's own.
The licences go to PREFIX/share/doc/kinship/licenses, one file for each package.

The folder licences, beside this file, has those of what the linked packages themselves contain and do not tell: LibYAML
in Yams, and ICU in Swift's Foundation.
"""
import re
import shutil
import sys
from pathlib import Path


def linked_modules(build: Path):
    """The modules of which files are linked into the program."""
    file = build / "release/kinship.product/Objects.LinkFileList"
    if not file.exists():
        sys.exit(f"package: {file} is missing, so that nobody knows what is linked; leave out --no-build")
    modules = set(re.findall(r"/(\w+)\.build/", file.read_text("utf-8")))
    if not modules:
        sys.exit(f"package: {file} names no module; expected paths as Yams.build/Node.swift.o")
    return modules


def main() -> None:
    if len(sys.argv) != 5:
        sys.exit("usage: licences.py PREFIX BUILD TOOLCHAIN MANIFEST")
    prefix, build, toolchain, manifest = map(Path, sys.argv[1:])
    folder = prefix / "share/doc/kinship/licenses"
    folder.mkdir(parents=True, exist_ok=True)
    own = set(re.findall(r'name: "(\w+)"', manifest.read_text("utf-8")))
    packages = set()
    for module in sorted(linked_modules(build)):
        found = {path.parent.parent for path in build.glob(f"checkouts/*/Sources/{module}")}
        if not found and module not in own:
            sys.exit(
                f"package: the program contains the module {module}, which is no target of {manifest} and no folder of "
                f"{build}/checkouts/*/Sources; its licence must be in the package, so teach {__file__} where it is")
        packages |= found
    for package in sorted(packages):
        files = sorted(path for name in ("LICENSE*", "NOTICE*") for path in package.glob(name))
        if not files:
            sys.exit(f"package: {package} has no LICENSE, and its licence must be in the package")
        (folder / package.name).write_bytes(b"\n".join(file.read_bytes() for file in files))
    swift = toolchain / "share/swift/LICENSE.txt"
    if not swift.exists():
        sys.exit(f"package: there is no {swift}, and Swift's licence must be in the package; use swift.org's toolchain")
    shutil.copyfile(swift, folder / "swift")
    for text in sorted((Path(__file__).parent / "licences").iterdir()):
        shutil.copyfile(text, folder / text.name)
    print(f"package: licences of {', '.join(package.name for package in sorted(packages))} and Swift", file=sys.stderr)


if __name__ == "__main__":
    main()
