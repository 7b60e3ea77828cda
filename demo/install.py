"""Install requirements with pip, its many lines shown as one. Run: python demo/install.py -r requirements.txt

With nothing but the standard library: it makes the environment that everything else needs. What pip has said is
printed in full where it fails.
"""

import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

os.environ.pop("WANDB_MODE", None)  # With it, the package would look for transformers.
from finetune.progress_line import Progress
from finetune.screen import show_progress

PIP = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]


def main(arguments: list[str]) -> int:
    """Run pip and return its status."""
    show_progress()
    said: list[str] = []
    pip = subprocess.Popen([*PIP, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    line = Progress(f"pip install {' '.join(arguments)}", None, "packages")
    for text in lines_of(pip):
        said += [text] if text else []
        line.update(*state_of(said))
    if pip.wait() == 0:
        line.update(*state_of(said))
        line.close()
    else:
        print("".join(said), file=sys.stderr)
    return pip.returncode


def lines_of(pip: subprocess.Popen) -> Iterator[str]:
    """Yield what pip says, a line at a time; an empty one after each second without a word."""
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=lambda: [*map(lines.put, pip.stdout), lines.put(None)], daemon=True).start()
    while True:
        try:
            text = lines.get(timeout=1)
        except queue.Empty:
            text = ""
        if text is None:
            return
        yield text


def state_of(said: list[str]) -> tuple[int, str]:
    """Return how many packages pip has got so far, and what it is at."""
    got = [found for text in said if (found := re.match(r"\s*(Downloading|Using cached|Processing) (\S+)(.*)", text))]
    got = [found for found in got if not found[2].endswith(".metadata")]
    if any(text.startswith("Installing collected packages") for text in said):
        return len(got), "" if said[-1].startswith("Successfully") else ", putting them in place"
    if not got:
        return 0, ""
    size = re.search(r"\([\d.]+ [kMG]B\)", got[-1][3])
    return len(got), f", {Path(got[-1][2]).name.split('-')[0]}{f' {size[0]}' if size else ''}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
