"""Reads an icon theme in the form of the freedesktop icon theme specification: one image for each thing that it draws.

    https://specifications.freedesktop.org/icon-theme-spec    folders, sizes and their distances
    https://specifications.freedesktop.org/icon-naming-spec   names and contexts

A folder that index.theme lists holds one context (actions, apps, …) at one size. An icon is a name in a context; its
image is the one nearest to 64 pixels, by the specification's distance; of two as near, the larger, and PNG before SVG.
Left out: symbolic icons, which have one colour, that of text; those for languages that are written from right to left;
animations; folders for screens of higher density; links that leave the package.

A link is another name of the icon to which it leads, and so is a copy with the same bytes. An icon's title is the name
of the file that is no link ("document-open": document open). Its keywords are the title, up to eight other names, and
the context.
"""
import configparser
import hashlib
import re
from pathlib import Path

SIDE, MOST_NAMES = 64, 8
# Each context, as a class of zero-shot classification, and the names that folders and index.theme give it.
CONTEXTS = {
    "actions": {"actions", "stock"},
    "applications": {"apps", "applications"},
    "categories": {"categories", "preferences"},
    "devices": {"devices", "device"},
    "emblems": {"emblems"},
    "emotes": {"emotes"},
    "file types": {"mimetypes", "mimes"},
    "places": {"places", "filesystems"},
    "status": {"status", "panel"},
}
CLASSES = list(CONTEXTS)


def icons(theme: Path):
    """(image, key, title, keywords, label) of every icon; a label is a position in CLASSES."""
    theme = theme.resolve()
    folders = dict(contexts_and_distances(theme))
    best = {}
    for folder, (context, distance) in folders.items():
        for path in (theme / folder).glob("*.*"):
            if path.suffix not in (".png", ".svg") or re.search(r"[-.]symbolic|-(rtl|ltr)\b|[^ -~]", path.name):
                continue
            # A link into another package leads nowhere, or to what this machine has installed.
            if path.is_file() and (target := path.resolve()).is_relative_to(theme.parent):
                rank = (*distance, path.suffix, folder)
                icon = (context, path.stem)
                best[icon] = min(best.get(icon, (rank, path, target)), (rank, path, target))

    names = {}
    for (context, name), (_, path, target) in best.items():
        # The target's own icon may have an image that is nearer to the size.
        if path.is_symlink() and target.is_relative_to(theme):
            folder = target.parent.relative_to(theme).as_posix()
            context_of_target, _ = folders.get(folder, (None, None))
            if nearest := best.get((context_of_target, target.stem)):
                target = nearest[2]
        content = hashlib.sha256(target.read_bytes()).digest()
        names.setdefault(content, []).append((path.is_symlink(), CLASSES.index(context), name, target))

    for bearers in sorted(sorted(bearers) for bearers in names.values()):
        _, label, name, target = bearers[0]
        titles = list(dict.fromkeys(title for _, _, name, _ in bearers if (title := words(name))))
        if titles:
            keywords = ", ".join([*titles[:1 + MOST_NAMES], CLASSES[label]])
            yield target, f"{CLASSES[label].replace(' ', '-')}/{name}", titles[0], keywords, label


def contexts_and_distances(theme: Path):
    """folder -> (context, how far its images are from SIDE) of every folder that index.theme lists and that counts."""
    index = configparser.RawConfigParser(strict=False, allow_no_value=True)
    # Some files have lines before the first section or twice the same key.
    description = theme / "index.theme"
    try:
        index.read_string("[before]\n" + (description.read_text("utf-8", "replace") if description.exists() else ""))
    except configparser.Error as error:
        raise ValueError(f"{description} is not an icon theme's description: {' '.join(str(error).split())}") from None
    except AttributeError:
        # As Python before 3.13 says it.
        raise ValueError(f"{description}: a line is indented below a key without a value") from None
    for folder in (index.get("Icon Theme", "Directories", fallback="") or "").split(","):
        folder = folder.strip().rstrip("/")
        section = index[folder] if index.has_section(folder) else {}
        words = [*re.split("[/-]", folder.lower()), (section.get("Context") or "").strip().lower()]
        context = next((context for word in words for context, own in CONTEXTS.items() if word in own), None)
        if context is None or number(section, "Scale", 1) != 1 or re.search("symbolic|animation|@|[^ -~]", folder):
            continue
        size = number(section, "Size", 48)
        kind, slack = (section.get("Type") or "Threshold").strip(), number(section, "Threshold", 2)
        if kind == "Scalable":
            least, most = number(section, "MinSize", size), number(section, "MaxSize", size)
        else:
            least, most = (size, size) if kind == "Fixed" else (size - slack, size + slack)
        yield folder, (context, (max(least - SIDE, SIDE - most, 0), abs(size - SIDE), -size))


def number(section, key: str, default: int) -> int:
    found = re.match("[0-9]{1,6}", (section.get(key) or "").strip())  # "12px" occurs
    return int(found[0]) if found else default


def words(name: str) -> str:
    """A file's name as a caption: empty if it has no word. "org.kde.kate": kate, "text-x-python": text python."""
    name = re.sub(r"^(org|com|net|io|de|fr|uk)\.[\w.-]*\.(?=[A-Za-z])", "", name)
    # Programs of Windows, as Wine files them ("1A2B_notepad.0"); a keyboard's letters; numbers of games and web pages.
    name = re.sub(r"^[0-9A-F]{4}_|\.0$|^indicator-keyboard-.*|^steam_icon_\d*$|^chrome-\w{32}-.*", "", name)
    name = re.sub(r"^(stock|gtk|gnome[-_](mime|fs|dev|stock))[-_]", "", name, flags=re.I)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|[^\w]|_", " ", name).lower()
    found = [word for word in name.split() if word != "x"]
    return " ".join(found) if any(re.search("[a-z]{2}", word) for word in found) else ""
