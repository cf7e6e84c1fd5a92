"""HDF5 files: a writer of small ones as h5py makes them, and changes of metadata, whose checksums are made to fit."""
import re
import struct

from mutate import BYTES, flip, integer

NOWHERE = (1 << 64) - 1
FLOAT = bytes((0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0)) + bytes(4)
# A string of any length in UTF-8, which lies elsewhere.
TEXT = bytes((0x19, 1, 1, 0, 16, 0, 0, 0, 0x10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 8, 0)) + bytes(4)


class File:
    """A file that grows by blocks at multiples of 8, behind a superblock."""

    def __init__(self):
        self.data = bytearray(96)

    def put(self, block: bytes) -> int:
        """Appends a block, and returns its address."""
        at = len(self.data)
        self.data += block + bytes(-len(block) % 8)
        return at

    def header(self, messages) -> int:
        """Appends an object's header with messages: their types and contents."""
        inside = b"".join(
            struct.pack("<HHB3x", kind, len(content), 1 if kind == 3 else 0) + content for kind, content in messages)
        return self.put(struct.pack("<BxHII4x", 1, len(messages), 1, len(inside)) + inside)

    def dataset(self, form: bytes, shape, content: bytes) -> int:
        """Appends a contiguous data set, and returns the address of its header."""
        sizes = struct.pack(f"<{len(shape)}Q", *shape) * 2
        place = self.put(content) if content else NOWHERE
        return self.header([
            (1, struct.pack("<BBB5x", 1, len(shape), 1) + sizes), (3, form),
            (5, bytes((2, 2, 0 if form == TEXT else 2, 1, 0, 0, 0, 0))),
            (8, struct.pack("<BBQQ6x", 3, 1, place, len(content)))])

    def texts(self, words) -> int:
        """Appends a data set of strings of any length, behind the collection that holds them."""
        inside = b""
        for number, word in enumerate(words, 1):
            inside += struct.pack("<HHIQ", number, 0, 0, len(word)) + word + bytes(-len(word) % 8)
        size = max(4096, 32 + len(inside))
        free = size - 16 - len(inside)
        heap = self.put(
            (b"GCOL" + struct.pack("<B3xQ", 1, size) + inside + struct.pack("<QQ", 0, free)).ljust(size, b"\0"))
        places = [struct.pack("<IQI", len(word), heap, number) for number, word in enumerate(words, 1)]
        return self.dataset(TEXT, [len(words)], b"".join(places))

    def closed(self, members) -> bytes:
        """Appends the root group with its members, at most eight data sets by name, and returns the file."""
        names, entries = bytes(8), b""
        for name, address in sorted(members.items()):
            last = len(names)
            entries += struct.pack("<QQ24x", last, address)
            names += name.encode().ljust(len(name) // 8 * 8 + 8, b"\0")
        heap = self.put(b"HEAP" + struct.pack("<4xQQQ", len(names), 1, len(self.data) + 32) + names)
        leaf = self.put((b"SNOD" + struct.pack("<BxH", 1, len(members)) + entries).ljust(328, b"\0"))
        tree = self.put(
            (b"TREE" + struct.pack("<BBHQQQQQ", 0, 0, 1, NOWHERE, NOWHERE, 0, leaf, last)).ljust(544, b"\0"))
        root = self.header([(17, struct.pack("<QQ", tree, heap))])
        self.data[:96] = b"\x89HDF\r\n\x1a\n" + struct.pack(
            "<5xBBxHHIQQQQQQI4xQQ", 8, 8, 4, 16, 0, 0, NOWHERE, len(self.data), NOWHERE, 0, root, 1, tree, heap)
        return bytes(self.data)


def written(numbers, texts, fixed) -> bytes:
    """Returns a file with arrays by name: floats with their shapes, and strings of any length or of one length."""
    file, members = File(), {}
    for name, (shape, values) in numbers.items():
        members[name] = file.dataset(FLOAT, shape, struct.pack(f"<{len(values)}f", *values))
    for name, words in texts.items():
        members[name] = file.texts([word.encode() for word in words])
    for name, words in fixed.items():
        size = max(len(word.encode()) for word in words)
        content = b"".join(word.encode().ljust(size, b"\0") for word in words)
        members[name] = file.dataset(struct.pack("<4BI", 0x13, 0x11, 0, 0, size), [len(words)], content)
    return file.closed(members)


def lookup3(data: bytes) -> int:
    """Returns the checksum of HDF5's metadata: Bob Jenkins's hash lookup3."""
    def turned(word, bits):
        return (word << bits | word >> (32 - bits)) & 0xFFFFFFFF

    a = b = c = (0xDEADBEEF + len(data)) & 0xFFFFFFFF
    for at in range(0, len(data), 12):
        words = struct.unpack("<3I", data[at:at + 12].ljust(12, b"\0"))
        a, b, c = ((one + word) & 0xFFFFFFFF for one, word in zip((a, b, c), words))
        # The three change places in each round; after six of them they are back.
        for bits in (4, 6, 8, 16, 19, 4) if at + 12 < len(data) else ():
            a, b, c = b, (c + b) & 0xFFFFFFFF, ((a - c) & 0xFFFFFFFF) ^ turned(c, bits)
    for bits in (14, 11, 25, 16, 4, 14, 24) if data else ():
        a, b, c = b, ((c ^ b) - turned(b, bits)) & 0xFFFFFFFF, a
    return b if data else c


# Of each structure with a checksum, the sizes that it may have, each with the place of the checksum: heaps of links and
# their trees, whose nodes have records of 11 bytes.
SEALED = {
    b"FRHP": [(146, 142)], b"BTHD": [(38, 34)], b"FHDB": [(512 << size, 17) for size in range(9)],
    b"FHIB": [(21 + 32 * rows, 17 + 32 * rows) for rows in range(1, 23)],
    b"BTLF": [(10 + 11 * records, 6 + 11 * records) for records in range(1, 46)],
    b"BTIN": [
        (10 + 11 * records + pointer * (records + 1), 6 + 11 * records + pointer * (records + 1))
        for records in range(1, 46) for pointer in range(9, 13)]}
# The sizes of the others, and what the header of an object looks like.
OTHERS = {b"TREE": 544, b"SNOD": 328, b"HEAP": 32, b"GCOL": 128, b"\x89HDF\r\n\x1a\n": 96}
HEADER = re.compile(rb"\x01\0(?s:..)\x01\0\0\0(?s:(....))\0\0\0\0")


def total(block: bytes, place: int) -> int:
    """Returns the checksum of a structure. Within the bytes that it covers it counts as zeros."""
    return lookup3(block[:place] + bytes(4) + block[place + 4:] if place + 4 < len(block) else block[:place])


def structures(data: bytes):
    """Returns the start and the end of each structure, and the place of its checksum or None."""
    found = []
    for signature in (*SEALED, *OTHERS):
        at = data.find(signature)
        while at >= 0:
            if signature in OTHERS:
                found.append((at, at + OTHERS[signature], None))
            for size, place in SEALED.get(signature, ()):
                block = data[at:at + size]
                if len(block) == size and int.from_bytes(block[place:place + 4], "little") == total(block, place):
                    found.append((at, at + size, place))
                    break
            at = data.find(signature, at + 1)
    for match in HEADER.finditer(data):
        found.append((match.start(), match.end() + min(int.from_bytes(match[1], "little"), 4096), None))
    return found


def metadata(chance, data: bytes) -> bytes:
    """Changes a field of a structure, whose checksum is made to fit, or puts 8 bytes of another one in it."""
    found = structures(data)
    if not found:
        return flip(chance, data)
    start, end, place = chance.choice(found)
    block = data[start:end]
    if chance.random() < 0.3:
        other, rest, _ = chance.choice(found)
        at, source = chance.randrange(len(block)), chance.randrange(other, rest)
        word = data[source:source + 8][:len(block) - at]
        block = block[:at] + word + block[at + len(word):]
    else:
        block = integer(chance, block)
    if place is not None:
        block = block[:place] + total(block, place).to_bytes(4, "little") + block[place + 4:]
    return data[:start] + block + data[end:]


HDF5 = BYTES + [metadata] * 2 * len(BYTES)
