"""Steps that two or more of the scripts must do identically: a module a noun."""

import logging
import os
import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

from finetune.redaction import redact

PACKAGE = Path(__file__).parent

# On import bitsandbytes warns that an optional kernel from the Hub is missing, and Liger that it has none for other
# hardware; nothing here uses them. The scripts import this package first, so the warnings are off in time.
for name in ("bitsandbytes", "liger_kernel"):
    logging.getLogger(name).setLevel(logging.ERROR)
# Packs are of all lengths: in blocks of fixed sizes a GPU's memory would be in pieces before it is full.
if sys.platform == "linux" and "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
if os.environ.get("WANDB_MODE") == "offline" and find_spec("transformers"):  # Not while it is being installed.
    # On import this module of transformers says so on stdout, which is for results only.
    with redirect_stdout(sys.stderr):
        import transformers.integrations.integration_utils  # noqa: F401


class InputError(Exception):
    """Something the user gave cannot be used; the message says what, what was expected, what to do, and no secret."""

    def __init__(self, message: str):
        super().__init__(redact(message))
