"""Reads the part of YAML in which plans are written: sections and lists by indentation, [..], {..}, quotes, comments.

Scalars stay text, so that a setting such as objective.fd=0.30 reaches the program as it is written.
"""
import json
import os
import re

from command_line.refused import Refused

KEY = re.compile(r'([\w.+-]+|"[^"]*"):(?:\s+(.*))?$')
# A quoted text, a bracket or comma, a colon between key and value, or plain text.
TOKEN = re.compile(
    r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[\[\]{},]|:(?=\s|$)|[^\s\[\]{},:"'](?:[^\[\]{},:]|:(?!\s|$))*)""")

# What no path, command or file of text can hold: control characters and lone surrogates.
CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def parse(text: str, name: str):
    """Returns nested dicts, lists and texts. `name` stands in messages."""
    reader = Reader(text, name)
    if not reader.lines:
        raise Refused(f"{name} is empty")
    try:
        found = reader.block(reader.lines[0][1])
    except RecursionError:
        reader.fail("sections and lists lie too deep in one another")
    if reader.at < len(reader.lines):
        reader.fail("is indented unlike the lines above it")
    return found


def without_comment(line: str) -> str:
    quote, before = None, " "
    for index, letter in enumerate(line):
        if quote:
            quote = None if letter == quote else quote
        elif letter in "\"'" and before in " [{,":
            quote = letter
        elif letter == "#" and before in " \t":
            return line[:index].rstrip()
        before = letter
    return line.rstrip()


def scalar(text: str) -> str:
    """What a text stands for: quotes fall away, and a `~` in front of a slash is the home folder. Throws ValueError if
    quotes do not close, or hold what no text may."""
    if text[:1] == '"':
        text = json.loads(text)
    elif text[:1] == "'":
        if not re.fullmatch("'(?:[^']|'')*'", text):
            raise ValueError
        text = text[1:-1].replace("''", "'")
    if CONTROL.search(text):
        raise ValueError
    return os.path.expanduser(text) if text.startswith("~/") else text


def shown(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:99]}…"


class Reader:
    def __init__(self, text: str, name: str):
        # Number, indentation and text of each line that has any.
        self.name, self.at, self.lines = name, 0, []
        for number, line in enumerate(text.split("\n"), 1):
            if CONTROL.search(line):
                self.fail("a control character; take it out", number)
            line = without_comment(line)
            bare = line.lstrip(" ")
            if bare[:1] == "\t":
                self.fail("is indented by a tab; use blanks", number)
            if bare:
                self.lines.append((number, len(line) - len(bare), bare))

    def fail(self, words: str, number=None):
        raise Refused(f"{self.name}, line {number or self.lines[min(self.at, len(self.lines) - 1)][0]}: {words}")

    def here(self, indentation: int, item: bool):
        """The next line, if it belongs to a list (`item`) or section of this indentation."""
        if self.at == len(self.lines):
            return None
        number, found, text = self.lines[self.at]
        return (number, text) if found == indentation and (text[:2] in ("-", "- ")) == item else None

    def block(self, indentation: int):
        return self.items(indentation) if self.here(indentation, item=True) else self.section(indentation)

    def items(self, indentation: int):
        found = []
        while line := self.here(indentation, item=True):
            number, text = line
            rest = text[1:].lstrip()
            if KEY.match(rest):
                # A section whose first key stands behind the dash.
                inner = indentation + len(text) - len(rest)
                self.lines[self.at] = (number, inner, rest)
                found.append(self.section(inner))
            else:
                self.at += 1
                found.append(self.value(rest, number, indentation + 1))
        return found

    def section(self, indentation: int):
        found = {}
        while line := self.here(indentation, item=False):
            number, text = line
            match = KEY.match(text)
            if not match:
                self.fail(f"expected “key: value”, found “{shown(text)}”")
            try:
                key = scalar(match[1])
            except ValueError:
                self.fail(f"cannot read the key {shown(match[1])}")
            if key in found:
                self.fail(f"{key} is given twice; keep one")
            self.at += 1
            found[key] = self.value(match[2] or "", number, indentation)
        return found

    def value(self, text: str, number: int, indentation: int):
        """What stands behind a key or a dash: on its line and further indented ones, or in the block below."""
        if text[:1] in ("[", "{"):
            parts, (left, quote) = [text], opened(text, None)
            while self.at < len(self.lines) and left > 0:
                parts.append(self.lines[self.at][2])
                more, quote = opened(f" {parts[-1]}", quote)
                left += more
                self.at += 1
            return self.flow(" ".join(parts), number)
        if text:
            if text[0] in "|>&*!%@`":
                self.fail(f"“{shown(text)}” is YAML that plans do not have; put such a text in quotes", number)
            while self.at < len(self.lines) and self.lines[self.at][1] > indentation:
                text += " " + self.lines[self.at][2]
                self.at += 1
            try:
                return scalar(text)
            except ValueError:
                self.fail(f"cannot read {shown(text)}: its quotes do not close, or hold an unknown escape", number)
        if self.at < len(self.lines):
            below = self.lines[self.at][1]
            if below > indentation or (below == indentation and self.here(below, item=True)):
                return self.block(below)
        return ""

    def flow(self, text: str, number: int):
        tokens, at = [], 0
        while at < len(text):
            match = TOKEN.match(text, at)
            if not match:
                self.fail(f"cannot read “{shown(text[at:].strip())}”; put text with brackets in quotes", number)
            tokens.append(match[1].strip())
            at = match.end()
        try:
            # From the end, where the first one can be taken without moving all others.
            tokens.reverse()
            found = flow_value(tokens)
        except (IndexError, ValueError, RecursionError):
            found = None
        if found is None or tokens:
            self.fail(f"cannot read “{shown(text)}”: a bracket, comma or colon is missing or too many; put text with"
                      " brackets in quotes", number)
        return found


def opened(text: str, quote):
    """How many more brackets a text opens than it closes outside of quotes, and the quote that is open at its end.
    `quote` is the one that is open before it. Each text is looked at once, however many lines a value has."""
    count, before, escaped = 0, " ", False
    for letter in text:
        if quote:
            if escaped:
                escaped = False
            elif letter == "\\" and quote == '"':
                escaped = True
            elif letter == quote:
                # What stands behind a single quote may be its second half.
                quote, before = None, " " if letter == "'" else letter
                continue
        elif letter in "\"'" and before in " [{,:":
            quote = letter
        elif letter in "[{":
            count += 1
        elif letter in "]}":
            count -= 1
        before = letter
    return count, quote


def flow_value(tokens):
    """Takes one value from the end of the tokens, which are in reverse. Throws ValueError or IndexError where they form
    none."""
    first = tokens.pop()
    if first not in ("[", "{"):
        if first in ("]", "}", ",", ":"):
            raise ValueError
        return scalar(first)
    closing, found = ("]", []) if first == "[" else ("}", {})
    while tokens[-1] != closing:
        if closing == "]":
            found.append(flow_value(tokens))
        else:
            key = scalar(tokens.pop())
            if tokens.pop() != ":" or key in found:
                raise ValueError
            found[key] = flow_value(tokens)
        if tokens[-1] != closing and tokens.pop() != ",":
            raise ValueError
    tokens.pop()
    return found
