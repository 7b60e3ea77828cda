"""Flags completed by the shell: `python predict.py --print-completion bash` prints what the shell needs, once.

It is made from the parser's own flags by shtab. Nothing of it runs at a press of Tab, when the libraries that the
scripts import would take seconds.
"""

import argparse
from collections.abc import Collection
from pathlib import Path

from finetune import InputError

FLAG = "--print-completion"
SHELLS = ("bash", "zsh", "tcsh")
HELP = "completion of these flags: bash, zsh, tcsh"
# bash completes by the first word, and that is python here.
BASH = """
_finetune_scripts() {
  local script="${COMP_WORDS[1]##*/}" function
  function=$(complete -p "$script" 2>/dev/null | sed -n 's/.* -F \\([^ ]*\\) .*/\\1/p')
  if [[ $COMP_CWORD -gt 1 && $function == _shtab_* ]]; then
    COMP_WORDS=("${COMP_WORDS[@]:1}"); COMP_CWORD=$((COMP_CWORD - 1)); "$function"
  else
    COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
  fi
}
complete -o filenames -F _finetune_scripts python python3
"""


def completion(parser: argparse.ArgumentParser, actions: Collection[argparse.Action], shell: str) -> str:
    """Return the script that completes the flags of a parser in a shell; each is spelled with dashes from then on.

    Args:
        actions: of the parser.

    Raises:
        InputError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise InputError(f"{FLAG} needs the package shtab: pip install -r requirements.txt.") from error
    for action in actions:
        action.option_strings = [option for option in action.option_strings if "_" not in option]
        if action.type is Path or action.dest in ("config", "input", "output", "dataset"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell) + (BASH if shell == "bash" else "")
