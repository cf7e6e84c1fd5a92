"""Changes of files that know their format: what they change still reads as the format, so that it gets further in."""
import io
import json
import pickletools
import struct
import tarfile
import zipfile
import zlib

from hdf5 import HDF5
from mutate import BYTES, GZIP, INTEGERS, LARGEST, NUMBERS, TEXT, YAML, flip, integer


class Pairs(list):
    """An object of JSON as a list of its pairs, so that a key can stand in it twice."""


class Raw(str):
    """The text of a value, as it is written."""


def written(value):
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(key)}:{written(one)}" for key, one in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


def places(value, found):
    """Adds every list of values or pairs with each index in it."""
    if isinstance(value, list):
        for index, one in enumerate(value):
            found.append((value, index))
            places(one[1] if isinstance(value, Pairs) else one, found)
    return found


def change_tree(chance, tree):
    """Changes one value of a JSON tree, in place."""
    found = places(tree, [])
    if not found:
        return
    inside, index = chance.choice(found)
    paired = isinstance(inside, Pairs)
    key, value = inside[index] if paired else (None, inside[index])
    kind = chance.randrange(8)
    if kind == 0:
        del inside[index]
        return
    if kind == 1:
        inside.insert(chance.randrange(len(inside) + 1), inside[index])
        return
    if kind == 2 and paired:
        other = chance.choice(inside)[0]
        inside[index] = (chance.choice((other, "", key + "x", "__proto__", key.upper())), value)
        return
    other, at = chance.choice(found)
    borrowed = other[at][1] if isinstance(other, Pairs) else other[at]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        near = Raw(chance.choice((value + 1, value - 1, -value, value * 2, value + 0.5)))
        new = chance.choice((near, Raw(chance.choice(INTEGERS)), Raw(chance.choice(NUMBERS))))
    elif isinstance(value, str):
        new = chance.choice((
            value + "\0", value[:-1], value * 1000, "../" + value, "", "\u2028", Raw("7"), Raw("null")))
    else:
        deep = chance.choice((100, 50_000))
        new = chance.choice((Raw("[]"), Raw("{}"), Raw("null"), Raw("[" * deep + "]" * deep), Raw("[1]"), Raw('""')))
    if chance.random() < 0.2:
        new = Raw(written(borrowed))
    inside[index] = (key, new) if paired else new


def tree(chance, data):
    try:
        value = json.loads(data, object_pairs_hook=Pairs)
        change_tree(chance, value)
        return written(value).encode()
    except (ValueError, OverflowError, RecursionError):
        return flip(chance, data)


JSON = TEXT + [tree] * len(TEXT)


def header(chance, data):
    """Changes the header of a safetensors file, whose length is made to fit, or only the length."""
    length = int.from_bytes(data[:8], "little")
    front, rest = data[8:8 + length], data[8 + length:]
    if chance.random() < 0.15:
        return (chance.choice(INTEGERS + [length + 1, length - 8]) % (1 << 64)).to_bytes(8, "little") + data[8:]
    front = chance.choice(JSON)(chance, front)
    if chance.random() < 0.8:
        front += b" " * (-len(front) % 8)
    return len(front).to_bytes(8, "little") + front + rest


SAFETENSORS = BYTES + [header] * 2 * len(BYTES)


def program(chance, data):
    """Changes the operations of a pickle: their arguments, their order, or which there are."""
    try:
        starts = [at for _, _, at in pickletools.genops(data)] + [len(data)]
    except Exception:  # It raises whatever it meets in what is no pickle any more.
        return flip(chance, data)
    at = chance.randrange(len(starts) - 1)
    pieces = [data[a:b] for a, b in zip(starts, starts[1:])]
    kind = chance.randrange(6)
    if kind == 0:
        del pieces[at]
    elif kind == 1:
        pieces.insert(chance.randrange(len(pieces)), pieces[at])
    elif kind == 2:
        pieces[at:at + 1] = [pieces[at]] * chance.choice((2, 1000, 20_000))
    elif kind == 3:
        code = chance.choice(pickletools.opcodes).code.encode("latin-1")
        pieces.insert(at, code + chance.choice((b"", b"\0", b"\xFF\xFF\xFF\x7F", b"\x80", b"x\n", b"os\nsystem\n")))
    elif kind == 4:
        pieces.insert(at, chance.choice((
            b"cos\nsystem\n", b"X\x02\0\0\0ls\x85R", b"h\xFF", b"j\xFF\xFF\xFF\xFF", b"(" * 5000,
            b"\x8A\xFF" + b"\x7F" * 255, b"\x8B\xFF\xFF\xFF\x7F", b"]\x94a" * 500, b"}\x94h\0h\0s", b"2" * 30_000,
            b"\x8D" + b"\xFF" * 8)))
    elif len(pieces[at]) > 1:
        pieces[at] = pieces[at][:1] + integer(chance, pieces[at][1:])
    return b"".join(pieces)


def archive(chance, data):
    """Changes an entry of a zip archive, which is written anew, or one of the archive's own records."""
    kind = chance.randrange(4)
    if kind == 0:
        # The records' fields, which the entries' names follow.
        signature = chance.choice((b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"))
        found = [at for at in range(len(data)) if data[at:at + 4] == signature]
        if found:
            at = chance.choice(found)
            return data[:at] + integer(chance, data[at:at + 46]) + data[at + 46:]
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            entries = [(name, old.read(name)) for name in old.namelist()]
    except Exception:  # Damaged archives end in many kinds of error.
        return flip(chance, data)
    if not entries:
        return flip(chance, data)
    at = chance.randrange(len(entries))
    if kind == 1:
        pickles = [index for index, (name, _) in enumerate(entries) if name.endswith(".pkl")]
        at = pickles[0] if pickles else at
        entries[at] = (entries[at][0], program(chance, entries[at][1]))
    elif kind == 2:
        entries[at] = (entries[at][0], chance.choice(BYTES)(chance, entries[at][1]))
    else:
        name = chance.choice((entries[at][0] + "x", "../" + entries[at][0], entries[0][0], "", "a" * 60_000))
        entries.insert(chance.randrange(len(entries) + 1), (name, entries[at][1]))
        if chance.random() < 0.5:
            del entries[at]
    return zipped(entries, chance.choice((zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED,)))


def zipped(entries, method=zipfile.ZIP_STORED):
    """Returns a zip archive, with a fixed time so that it is always the same."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as new:
        for name, content in entries:
            # The names may come twice, of which the module warns.
            record = zipfile.ZipInfo(name or "_", (1980, 1, 1, 0, 0, 0))
            record.compress_type = method
            new.writestr(record, content)
    return file.getvalue()


ZIP = BYTES + [archive] * 2 * len(BYTES)
# Of a tar's header: name, mode, size, kind, link, magic and prefix, each with its place and its size.
FIELDS = ((0, 100), (100, 8), (124, 12), (156, 1), (157, 100), (257, 8), (345, 155))


def record(chance, data):
    """Changes a field of a tar's header and makes its sum fit, or puts a record of extended headers before it."""
    starts = [at for at in range(0, len(data) - 511, 512) if data[at + 257:at + 262] == b"ustar"]
    if not starts:
        return flip(chance, data)
    at = chance.choice(starts)
    if chance.random() < 0.25:
        text = chance.choice((
            b"20 path=../../etc/x\n", b"99999999999 size=1\n", b"14 size=-1000\n", b"12 size=9e9\n",
            b"9 path=a\n" * 300, b"-1 path=a\n", b"30 size=99999999999999999999\n", b"11 path=\0\0\n", b"no record",
            b""))
        extra = io.BytesIO()
        with tarfile.open(fileobj=extra, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            entry = tarfile.TarInfo("x")
            entry.size, entry.type = len(text), chance.choice((b"x", b"g", b"L", b"K", b"S", b"V"))
            tar.addfile(entry, io.BytesIO(text))
        return data[:at] + extra.getvalue()[:512 + -(-len(text) // 512) * 512] + data[at:]
    start, size = chance.choice(FIELDS)
    value = chance.choice((
        b"7" * (size - 1), b"\x80" + b"\xFF" * (size - 1), b"\xFF" * size, b"\x80" + bytes(max(size - 2, 0)) + b"\x01",
        b" " * size, bytes(size), b"-1", b"a/../b", b"/x", b"1", b"2", b"5", b"L", b"x", chance.randbytes(size)))
    value = value[:size].ljust(size, b"\0")
    fields = bytearray(data[at:at + 512])
    fields[start:start + size] = value
    fields[148:156] = b" " * 8
    if chance.random() < 0.9:
        fields[148:156] = b"%06o\0 " % sum(fields)
    return data[:at] + bytes(fields) + data[at + 512:]


TAR = BYTES + [record] * 2 * len(BYTES)


def chunks(data):
    """Returns the chunks of a PNG file: kind and content."""
    found, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at:at + 4], "big")
        found.append((data[at + 4:at + 8], data[at + 8:at + 8 + length]))
        at += 12 + length
    return found


def chunk(chance, data):
    """Changes a chunk of a PNG file, whose sum is made to fit."""
    found = chunks(data) if data[:8] == b"\x89PNG\r\n\x1a\n" else []
    if not found:
        return flip(chance, data)
    at = chance.randrange(len(found))
    name, content = found[at]
    kind = chance.randrange(6)
    if kind == 0:
        found[at] = (chance.choice((b"PLTE", b"tRNS", b"IDAT", b"IHDR", b"IEND", b"acTL", b"fdAT")), content)
    elif kind == 1:
        found.insert(chance.randrange(len(found) + 1), (name, content))
    elif kind == 2:
        del found[at]
    elif kind == 3:
        bomb = zlib.compress(bytes(32 << 20), 9)
        found.insert(1, chance.choice((
            (b"iCCP", b"x\0\0" + bomb), (b"zTXt", b"x\0\0" + bomb), (b"IDAT", bomb), (b"eXIf", content * 100))))
    elif kind == 4 and name == b"IDAT":
        try:
            pixels = zlib.decompressobj().decompress(content, LARGEST)
            content = zlib.compress(chance.choice(BYTES)(chance, pixels))
        except zlib.error:
            content = flip(chance, content)
        found[at] = (name, content)
    else:
        found[at] = (name, chance.choice(BYTES)(chance, content))
    return data[:8] + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in found)


def segment(chance, data):
    """Changes a segment of a JPEG file or a chunk of a WebP file, whose length is made to fit."""
    if data[:4] == b"RIFF":
        front, order, found, at = 12, "little", [], 12
        while at + 8 <= len(data):
            length = int.from_bytes(data[at + 4:at + 8], "little")
            found.append((at, at + 4, 4, at + 8, at + 8 + length))
            at += 8 + length + length % 2
    else:
        front, order, found, at = 2, "big", [], 2
        while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
            length = int.from_bytes(data[at + 2:at + 4], "big")
            found.append((at, at + 2, 2, at + 4, at + 2 + length))
            at += 2 + length
    if not found:
        return flip(chance, data)
    start, size_at, size, inside, end = chance.choice(found)
    content = data[inside:end]
    if chance.random() < 0.3:
        return data[:front] + data[start:end] * chance.choice((1, 2, 500)) + data[front:]
    content = chance.choice(BYTES)(chance, content)[:60_000]
    length = (len(content) + (2 if size == 2 else 0)).to_bytes(size, order)
    return data[:size_at] + length + content + data[end:]


def picture(chance, data):
    return (chunk if data[:4] == b"\x89PNG" else segment)(chance, data)


PICTURE = BYTES + [picture] * len(BYTES)
# The mutators of each format.
MUTATORS = {
    "bytes": BYTES, "text": TEXT, "yaml": YAML, "json": JSON, "gzip": GZIP, "safetensors": SAFETENSORS, "zip": ZIP,
    "tar": TAR, "picture": PICTURE, "hdf5": HDF5}
