"""Changes of files: of their bytes, and of texts, whatever they are about. A mutator takes a random generator and a
file's bytes, and returns other bytes."""
import gzip
import struct
import zlib

# Where readers count, multiply and allocate: the edges of their types, and sizes that nobody has.
INTEGERS = sorted(
    {sign * (1 << bits) + step for bits in (0, 7, 8, 15, 16, 24, 31, 32, 40, 48, 53, 62, 63, 64) for step in (-1, 0, 1)
     for sign in (1, -1)} | {0, 10**9, 10**12, 50_000_001})
NUMBERS = [
    "-0", "0.0", "1e308", "-1e308", "1e309", "1e-320", "5e-324", "0.1", "NaN", "nan", ".nan", "Infinity", "-Infinity",
    ".inf", "1_000", "0x10", "010", "1e3", "+1", "1.", ".5", "9" * 400, "१२", "true", "null", '""', "[]", "{}", "~"]
TEXTS = [
    b"\0", b"\n", b"\r", b"\t", b"\"", b"\\", b"/", b"../", b"\xEF\xBB\xBF", b"\xFF\xFE", b"\xFF", b"\xC0\x80",
    b"\xED\xA0\x80", b"\xF5\x80\x80\x80", b"\xE2\x80\xA8", b"\xE2\x80\xAE", b"\xCC\x81" * 2000, b"\x1B[31m", b"\\u0000",
    b"\\ud800", b"%s%n", b"A" * 100_000, b"\xF0\x9F\xA6\x8A", b"&#0;", b"&#1114112;", b"${HOME}", b" " * 70_000]
LARGEST = 4 << 20


def place(chance, data):
    """Returns a place in the bytes. Headers stand in front, so half of all changes fall there."""
    return chance.randrange(min(len(data), chance.choice((64, 1024, len(data), len(data)))) or 1) if data else 0


def extent(chance, data):
    start = place(chance, data)
    return start, min(len(data), start + chance.choice((1, 2, 4, 8, 16, 64, 512, 4096)))


def flip(chance, data):
    at = place(chance, data)
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1:] if data else b"\0"


def overwrite(chance, data):
    start, end = extent(chance, data)
    fill = chance.choice((bytes(end - start), b"\xFF" * (end - start), chance.randbytes(end - start)))
    return data[:start] + fill + data[end:]


def insert(chance, data):
    at = place(chance, data)
    return data[:at] + chance.choice((chance.randbytes(chance.randrange(1, 64)), chance.choice(TEXTS))) + data[at:]


def delete(chance, data):
    start, end = extent(chance, data)
    return data[:start] + data[end:]


def truncate(chance, data):
    return data[:place(chance, data) if chance.random() < 0.5 else chance.randrange(len(data) + 1)]


def repeat(chance, data):
    start, end = extent(chance, data)
    times = min(chance.choice((1, 2, 100, 10_000)), LARGEST // max(end - start, 1))
    return data[:end] + data[start:end] * times + data[end:]


def exchange(chance, data):
    (a, b), (c, d) = sorted((extent(chance, data), extent(chance, data)))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:] if b <= c else data[b:] + data[:b]


def extend(chance, data):
    return data + chance.choice((bytes(chance.choice((1, 512, 1 << 20))), data, b"\n" * 3))


def integer(chance, data):
    """Puts an edge of an integer type where an integer may stand."""
    size = chance.choice((1, 2, 4, 8))
    at = place(chance, data) // size * size if chance.random() < 0.7 else place(chance, data)
    order = chance.choice(("little", "big"))
    old = int.from_bytes(data[at:at + size], order)
    value = chance.choice((chance.choice(INTEGERS), old + 1, old - 1, old * 2, len(data)))
    return data[:at] + (value % (1 << 8 * size)).to_bytes(size, order) + data[at + size:]


def number(chance, data):
    """Puts an edge of a floating-point type where one may stand."""
    form = chance.choice(("<f", "<d", ">f", ">d"))
    size = struct.calcsize(form)
    at = place(chance, data) // size * size
    value = chance.choice((float("nan"), float("inf"), -float("inf"), 1e-44, 3e38, -1.0))
    return data[:at] + struct.pack(form, value) + data[at + size:]


BYTES = [flip, overwrite, insert, delete, truncate, repeat, exchange, extend, integer, integer, number]


def numerals(data):
    """Returns the places of the numbers in a text."""
    found, start = [], None
    for at, byte in enumerate(data + b" "):
        inside = byte in b"0123456789.eE+-" if start is not None else byte in b"0123456789"
        if inside and start is None:
            start = at
        elif not inside and start is not None:
            found.append((start, at))
            start = None
    return found


def other_number(chance, data):
    found = numerals(data[:1 << 16])
    if not found:
        return insert(chance, data)
    start, end = chance.choice(found)
    old = data[start:end]
    new = chance.choice((
        str(chance.choice(INTEGERS)), chance.choice(NUMBERS), "-" + old.decode(), old.decode() + "0",
        old.decode() + "." + "3" * 30))
    return data[:start] + new.encode() + data[end:]


def words(chance, data):
    """Puts what is hard to read into a text."""
    at = place(chance, data)
    return data[:at] + chance.choice(TEXTS) + data[at + chance.randrange(3):]


def lines(chance, data):
    """Repeats, removes or moves a line."""
    found = data.splitlines(keepends=True)
    if not found:
        return b"\n"
    at, to = chance.randrange(len(found)), chance.randrange(len(found))
    line = found[at]
    kind = chance.randrange(4)
    if kind != 0:
        del found[at]
    if kind == 1:
        return b"".join(found)
    if kind == 3:
        line = line * min(5000, LARGEST // max(len(line), 1))
    return b"".join(found[:to] + [line] + found[to:])


def endings(chance, data):
    return data.replace(b"\n", chance.choice((b"\r\n", b"\r", b"\n\n", b"\xE2\x80\xA8", b"")))


def nest(chance, data):
    """Puts what is deeply nested where a value may stand."""
    at = place(chance, data)
    deep = chance.choice((64, 513, 20_000, 200_000))
    opening, closing = chance.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"- ", b""), (b"{", b""), (b"(", b")")))
    return data[:at] + opening * deep + b"1" + (closing * deep if chance.random() < 0.7 else b"") + data[at:]


TEXT = [other_number, other_number, words, lines, endings, nest, delete, insert, truncate, flip, repeat, exchange]


def alias(chance, data):
    """Gives a YAML file anchors and aliases: to itself, in loops, or of exponential size."""
    bomb = b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
        b"a%d: &a%d [%s]\n" % (level, level, b", ".join([b"*a%d" % (level - 1)] * 10)) for level in range(1, 10))
    return chance.choice((
        bomb + data, data + bomb, b"a: &a [*a]\n" + data, data.replace(b": ", b": &b ", 1) + b"c: *b\n",
        b"<<: &m {a: 1}\n<<: *m\n" + data, data + b"d: *missing\n"))


def mark(chance, data):
    """Gives a YAML file tags, several documents, tabs or other signs of its own."""
    sign = chance.choice((
        b"!!binary ", b"!!python/object/apply:os.system [x] ", b"!!set ", b"? ", b"| \n", b"> \n", b"\t",
        b"%YAML 9.9\n", b"---\n", b"...\n---\n", b"'", b'"', b"@", b"`", b"#", b"!!float ", b"!!int ", b"<<: "))
    found = [at + 2 for at in range(len(data)) if data[at:at + 2] == b": "] or [0]
    at = chance.choice((chance.choice(found), place(chance, data)))
    return data[:at] + sign + data[at:]


YAML = TEXT + [alias, mark, mark]


def inflated(chance, data):
    """Changes what a gzip file holds, or makes it hold very much."""
    if chance.random() < 0.2:
        zeros = gzip.compress(bytes(16 << 20), 9, mtime=0)
        return chance.choice((zeros * 64, data + zeros * 64, gzip.compress(zeros * 8, mtime=0)))
    try:
        text = zlib.decompressobj(31).decompress(data, LARGEST)
    except zlib.error:
        return flip(chance, data)
    return gzip.compress(chance.choice(TEXT)(chance, text), mtime=0)


GZIP = BYTES + [inflated] * len(BYTES)
