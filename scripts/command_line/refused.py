"""How a program ends: its exit codes, and the error of a program that cannot go on."""
import os
import signal
import sys

# FAULTS: what was looked for has been found, such as a fault, a difference or a broken bound. The others are the codes
# of kinship itself, which the manual's article ExitCodes lists.
FAULTS, USAGE, BAD_DATA, INTERNAL, INPUT_OUTPUT, TRY_AGAIN = 1, 64, 65, 70, 74, 75
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Refused(Exception):
    """A program cannot go on. Its text says who, what was expected and found, and what to change."""

    def __init__(self, words: str, status: int = USAGE):
        super().__init__(words)
        self.status = status


def run_program(name: str, main, input_output: int = INPUT_OUTPUT):
    """Runs a program's `main`, and ends this process with the exit code that it returns; none stands for 0. A refusal,
    or an error of a file, becomes one line on standard error."""
    # A terminal's encoding may lack a letter of the output, which must not end the program.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main() or 0
    except Refused as refused:
        status = refused.status
        print(f"{name}: {refused}", file=sys.stderr)
    except BrokenPipeError:
        # Whoever read the output has left, as in `| head`; what is still to be written goes nowhere.
        status = input_output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        status = input_output
        print(f"{name}: {described(error)}", file=sys.stderr)
    sys.exit(status)


def described(error: OSError) -> str:
    """Returns the file of an error and what is wrong with it."""
    words = error.strerror or str(error)
    return words if error.filename is None else f"{error.filename}: {words}"


def refuse_when_stopped(signals=STOPS, ignored=False):
    """From now on a signal to stop makes the program refuse to go on, so that it ends what it has started and removes
    what it has not finished. Signals that this process was started to ignore, as by nohup, stay ignored unless
    `ignored` says otherwise."""
    def stop(*_):
        # Once is enough: what is going on is then ended in good order.
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise Refused("stopped", TRY_AGAIN)

    for number in signals:
        if ignored or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
