"""Reads the part of YAML in which plans are written: sections and lists by indentation, [..] and {..}, quotes, comments.

Scalars stay text, so that a setting such as objective.fd=0.30 reaches the program as it is written.
"""
import json
import re

from refused import Refused

KEY = re.compile(r'([\w.+-]+|"[^"]*"):(?:\s+(.*))?$')
# A quoted text, a bracket or comma, a colon between key and value, or plain text.
TOKEN = re.compile(
    r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[\[\]{},]|:(?=\s|$)|[^\s\[\]{},:"'](?:[^\[\]{},:]|:(?!\s|$))*)""")


def parse(text: str, name: str):
    """Returns nested dicts, lists and texts. `name` stands in messages."""
    reader = Reader(text, name)
    if not reader.lines:
        raise Refused(f"{name} is empty")
    found = reader.block(reader.lines[0][1])
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
    if text[:1] == '"':
        return json.loads(text)
    return text[1:-1].replace("''", "'") if text[:1] == "'" else text


class Reader:
    def __init__(self, text: str, name: str):
        self.name, self.at = name, 0
        lines = ((number, without_comment(line)) for number, line in enumerate(text.splitlines(), 1))
        # Number, indentation and text of each line that has any.
        self.lines = [(number, len(line) - len(line.lstrip(" ")), line.strip()) for number, line in lines if line]

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
                self.fail(f"expected “key: value”, found “{text}”")
            key = scalar(match[1])
            if key in found:
                self.fail(f"{key} is given twice; keep one")
            self.at += 1
            found[key] = self.value(match[2] or "", number, indentation)
        return found

    def value(self, text: str, number: int, indentation: int):
        """What stands behind a key or a dash: on its line and further indented ones, or in the block below."""
        if text[:1] in ("[", "{"):
            while self.at < len(self.lines) and depth(text) > 0:
                text += " " + self.lines[self.at][2]
                self.at += 1
            return self.flow(text, number)
        if text:
            while self.at < len(self.lines) and self.lines[self.at][1] > indentation:
                text += " " + self.lines[self.at][2]
                self.at += 1
            try:
                return scalar(text)
            except ValueError:
                self.fail(f"the quotes of {text} do not close", number)
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
                self.fail(f"cannot read “{text[at:].strip()}”; put text with brackets in quotes", number)
            tokens.append(match[1].strip())
            at = match.end()
        try:
            found = flow_value(tokens)
        except (IndexError, ValueError):
            found = None
        if found is None or tokens:
            self.fail(f"cannot read “{text}”: a bracket, comma or colon is missing or too many; put text with brackets"
                      " in quotes", number)
        return found


def depth(text: str) -> int:
    """How many brackets are open at the end of the text."""
    bare = re.sub(r""""(?:[^"\\]|\\.)*"|'(?:[^']|'')*'""", "", text)
    return sum(bare.count(letter) for letter in "[{") - sum(bare.count(letter) for letter in "]}")


def flow_value(tokens):
    """Takes one value from the front of the tokens. Throws ValueError or IndexError where they do not form one."""
    first = tokens.pop(0)
    if first not in ("[", "{"):
        if first in ("]", "}", ",", ":"):
            raise ValueError
        return scalar(first)
    closing, found = ("]", []) if first == "[" else ("}", {})
    while tokens[0] != closing:
        if closing == "]":
            found.append(flow_value(tokens))
        else:
            key = scalar(tokens.pop(0))
            if tokens.pop(0) != ":" or key in found:
                raise ValueError
            found[key] = flow_value(tokens)
        if tokens[0] != closing and tokens.pop(0) != ",":
            raise ValueError
    tokens.pop(0)
    return found
