"""Steps that two or more of the scripts must do identically: a module a noun."""

import logging
import os
import sys
from contextlib import redirect_stdout

# On import bitsandbytes warns that an optional kernel from the Hub is missing; nothing here uses it.
# The scripts import this package first, so the warning is off in time.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
if os.environ.get("WANDB_MODE") == "offline":
    # On import this module of transformers says so on stdout, which is for results only.
    with redirect_stdout(sys.stderr):
        import transformers.integrations.integration_utils  # noqa: F401
