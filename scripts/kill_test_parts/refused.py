"""The way to scripts/command_line, for the modules of the kill test and for scripts/fuzz, which shares some of them."""
import sys
from pathlib import Path

# Behind the program's own folder, which comes first.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))
from command_line.refused import FAULTS, INTERNAL, TRY_AGAIN, Refused  # noqa: E402, F401
