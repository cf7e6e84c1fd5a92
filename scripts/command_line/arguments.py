"""Arguments of programs: mistakes are refusals, which name the program's help."""
import argparse
import re

from command_line.refused import Refused


class Arguments(argparse.ArgumentParser):
    """The parser of the program `name`. `document` is the text of --help; without one, the script that starts the
    program shows its help."""

    def __init__(self, name: str, document=None):
        super().__init__(prog=name, add_help=False, allow_abbrev=False)
        if document:
            self.add_argument("--help", "-h", action=Help, document=document)

    def error(self, message):
        raise Refused(f"{message}; see scripts/{self.prog} --help")


class Help(argparse.Action):
    def __init__(self, option_strings, dest, document):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0)
        self.document = document

    def __call__(self, parser, *_):
        print(self.document.strip())
        parser.exit()


def number(least: int = 1, most: int = 999_999_999):
    """Returns a type of arguments: a whole number in these bounds."""
    def read(text: str) -> int:
        if not re.fullmatch("0|[1-9][0-9]*", text) or len(text) <= 15 and int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a number from {least}, found '{text}'")
        if len(text) > 15 or int(text) > most:
            raise argparse.ArgumentTypeError(f"expected a number of at most {most}, found '{text}'")
        return int(text)
    return read


def some_of(known, pattern=None):
    """Returns a type of arguments: a list of known words, joined by commas, or of such as match the pattern."""
    def read(text: str):
        for word in text.split(","):
            if word not in known and not (pattern and re.fullmatch(pattern, word)):
                raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}, found '{word}'")
        return text.split(",")
    return read
