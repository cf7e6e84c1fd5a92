"""The checksums of files that carry their own, as the manual's article Formats has them: which of them a file's
contents break, so that it must be refused, and how to renew them, so that a change gets past them."""
import hashlib
import json
import re
from pathlib import Path

# In the metadata of a safetensors file, and at the beginning of an HDF5 file of weights.
SIGNED = b"of the file with these digits as zeros: "
SEALED = b"kinship weights 1\nsha256 "
USER_BLOCK = 512


def digest(data):
    return hashlib.sha256(data).hexdigest()


def content(file: Path):
    """Returns a file's bytes; none of what is no regular file any more."""
    return file.read_bytes() if file.is_file() and not file.is_symlink() else b""


def table(file: Path):
    """Returns a JSON file's object; an empty one if it is none."""
    try:
        found = json.loads(content(file))
    except (ValueError, RecursionError):
        found = {}
    return found if isinstance(found, dict) else {}


def listed(value):
    """Returns the objects in a list that may be anything."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


class Signature:
    """Of a safetensors file: in its metadata."""

    def __init__(self, name: str):
        self.name = name

    def broken(self, folder: Path):
        data = content(folder / self.name)
        front = data[8:8 + int.from_bytes(data[:8], "little")]
        try:
            text = json.loads(front)["__metadata__"]["kinship.sha256"].encode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return None if text == SIGNED + self.found(data) else f"{self.name} does not have the SHA-256 that is in it"

    def found(self, data):
        at = data.find(SIGNED) + len(SIGNED)
        return digest(data[:at] + b"0" * 64 + data[at + 64:]).encode()

    def renew(self, folder: Path):
        data = content(folder / self.name)
        at = data.find(SIGNED)
        if at >= 0:
            at += len(SIGNED)
            folder.joinpath(self.name).write_bytes(data[:at] + self.found(data) + data[at + 64:])


class Block:
    """Of an HDF5 file of weights: in the block before it."""

    def __init__(self, name: str):
        self.name = name

    def broken(self, folder: Path):
        data = content(folder / self.name)
        found = digest(data[USER_BLOCK:]).encode()
        whole = data[:USER_BLOCK].startswith(SEALED + found)
        return None if whole else f"{self.name} does not have the SHA-256 that it begins with"

    def renew(self, folder: Path):
        data = content(folder / self.name)
        if len(data) > USER_BLOCK:
            front = SEALED + digest(data[USER_BLOCK:]).encode() + b"\n"
            folder.joinpath(self.name).write_bytes(front.ljust(USER_BLOCK, b"\0") + data[USER_BLOCK:])


class Listing:
    """Of the files that a manifest lists: in it. The manifest's own is in another file, in itself, or nowhere."""

    def __init__(self, name: str, key: str, size: str, records=()):
        self.name, self.key, self.size, self.records = name, key, size, records

    def parts(self, folder: Path):
        """Returns the entry of each part with its path."""
        manifest = folder / self.name
        for part in listed(table(manifest).get(self.key)):
            if isinstance(part.get("file"), str) and re.fullmatch(r"[\w.-]{1,99}", part["file"], re.ASCII):
                yield part, manifest.parent / part["file"]

    def broken(self, folder: Path):
        for part, path in self.parts(folder):
            if path.exists() and digest(content(path)) != part.get("sha256"):
                return f"{path.name} does not have the SHA-256 that is in {Path(self.name).name}"
        return None

    def renew(self, folder: Path):
        manifest = folder / self.name
        text = content(manifest).decode("utf-8", "replace")
        texts = {path: content(path).decode("utf-8", "replace") for path in map(folder.joinpath, self.records)}
        for part, path in self.parts(folder):
            data = content(path)
            changes = [(part.get("sha256"), digest(data)), (self.rest(part), digest(self.without_images(part, data)))]
            for old, new in [*changes, (f'"{self.size}" : {part.get(self.size)}', f'"{self.size}" : {len(data)}')]:
                if old:
                    text = text.replace(str(old), new)
                    texts = {path: words.replace(str(old), new) for path, words in texts.items()}
        for path, words in texts.items():
            path.write_text(words, "utf-8", "surrogatepass")
        manifest.write_text(self.closed(text, manifest), "utf-8")

    @staticmethod
    def rest(part):
        return part.get("sha256_without_images")

    @staticmethod
    def without_images(part, data):
        start, size = part.get("image_offset"), part.get("image_bytes")
        if not isinstance(start, int) or not isinstance(size, int):
            return data
        return data[:max(start, 0)] + data[max(start + size, 0):]

    @staticmethod
    def closed(text, manifest: Path):
        """Returns the manifest's text with its own checksum, or writes that beside it."""
        beside = manifest.with_suffix(".sha256")
        if content(beside):
            beside.write_text(f"{digest(text.encode())}  {manifest.name}\n", "utf-8")
        blank = re.sub(r'("digest" : ")\w{64}"', r'\1"', text)
        return re.sub(r'("digest" : ")"', rf'\g<1>{digest(blank.encode())}"', blank)


class Checkpoint(Listing):
    """Of a checkpoint: also of its manifest, beside it."""

    def broken(self, folder: Path):
        manifest = folder / self.name
        found = content(manifest.with_suffix(".sha256")).split()[:1]
        if found != [digest(content(manifest)).encode()]:
            return f"{manifest.name} does not have the SHA-256 that is beside it"
        return super().broken(folder)
