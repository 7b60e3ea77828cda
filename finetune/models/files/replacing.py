"""Files written at once: whoever reads one meanwhile, or after a kill, finds the old one or the new one, whole."""

import os
from pathlib import Path


def replace_file(path: Path, text: str) -> None:
    """Write a file at once, by another name: hard links of the old one keep what they have."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)  # A link would be followed.
    with new.open("x", encoding="utf-8") as file:
        file.write(text)
    os.replace(new, path)
