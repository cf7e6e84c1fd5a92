"""Files that appear whole or not at all, in the forms that several programs write."""
import os
import struct
import zlib
from pathlib import Path


def publish(path, text: str):
    """Writes a text file under a name of its own, and gives it its final name when it is whole."""
    path = Path(path)
    if path.exists() and not path.is_file():
        # A pipe or a terminal, such as /dev/stdout, keeps its place.
        path.write_text(text, encoding="utf-8")
        return
    unfinished = path.with_name(f".{path.name}.new")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def png(side: int, pixels: bytes) -> bytes:
    """Returns a square image in RGB as a file of PNG."""
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    rows = b"".join(b"\0" + pixels[start:start + 3 * side] for start in range(0, len(pixels), 3 * side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
