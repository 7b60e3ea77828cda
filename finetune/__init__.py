"""Steps that two or more of the scripts must do identically: a module a noun."""

import logging

# On import bitsandbytes warns that an optional kernel from the Hub is missing; nothing here uses it.
# The scripts import this package first, so the warning is off in time.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
