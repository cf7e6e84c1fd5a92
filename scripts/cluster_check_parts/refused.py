"""The error of a check that cannot go on, with its exit code."""

BROKEN, USAGE, INTERNAL, TRY_AGAIN = 1, 64, 70, 75


class Refused(Exception):
    def __init__(self, words: str, status: int = USAGE):
        super().__init__(words)
        self.status = status
