"""Packages that are not Python's own, which a program takes from the system."""
import importlib
import os
import sys

# Debian's own Python, for which its packages are.
SYSTEM = "/usr/bin/python3"


def require(name: str, debian: str, *modules: str):
    """Starts the program `name` again with the system's Python if this one lacks a module: a python3 of the user's own
    may stand before it in PATH. Ends with a message that names Debian's packages if that one lacks it, too."""
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError as missing:
        if os.path.realpath(sys.executable) == os.path.realpath(SYSTEM) or not os.path.exists(SYSTEM):
            sys.exit(f"{name}: {missing}; on Debian: apt-get install {debian}")
        os.execv(SYSTEM, [SYSTEM, *sys.argv])
