"""The folder for what scripts fetch and import."""
import os
from pathlib import Path

from command_line.program import ROOT


def data_folder() -> str:
    """Returns the path of what the variable KINSHIP_DATA names, or of data in this source, or, if these scripts are
    those of an installed package, of data in the current folder. It need not be there. name_data of script.bash has the
    same rule."""
    home = ROOT if (ROOT / "Package.swift").exists() else Path.cwd()
    return os.environ.get("KINSHIP_DATA") or ("data" if home.samefile(Path.cwd()) else str(home / "data"))
