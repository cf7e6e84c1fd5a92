"""Lists a table's images and captions, a line each, as kinship embed reads them; for scripts/check-onnx.

    pair_lists.py FOLDER TABLE     TABLE is a CSV file with the columns filepath and title
"""
import csv
import os
import sys

work, table = sys.argv[1:]
with open(table, newline="", encoding="utf-8-sig") as file:
    rows = list(csv.DictReader(file))
for column in ("filepath", "title"):
    if not rows or column not in rows[0]:
        sys.exit(f"check-onnx: {table}: expected rows with the columns filepath and title")
for name, lines in (
    ("images", [os.path.abspath(os.path.join(os.path.dirname(table), row["filepath"])) for row in rows]),
    ("captions", [row["title"] for row in rows]),
):
    if any("\n" in line or not line.strip() for line in lines):
        sys.exit(f"check-onnx: one of the {name} is empty or has several lines; leave it out")
    with open(os.path.join(work, name), "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
