"""The error of a study that cannot go on, with its exit code."""

USAGE, BAD_DATA, INTERNAL, INPUT_OUTPUT, TRY_AGAIN = 64, 65, 70, 74, 75


class Refused(Exception):
    def __init__(self, words: str, status: int = USAGE):
        super().__init__(words)
        self.status = status
