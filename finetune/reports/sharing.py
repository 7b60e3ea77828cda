"""Work that all processes of a training do together, each its share."""

from collections.abc import Callable, Sequence

from accelerate import PartialState
from accelerate.utils import gather_object


def own_share(items: Sequence) -> int:
    """Return how many of the items are this process's own."""
    state = PartialState()
    return len(items[state.process_index :: state.num_processes])


def share_out(items: list, work: Callable[[list], Sequence]) -> list:
    """Return what `work` makes of each item, in order, on every process; all of them have to call this.

    Every n-th item is a process's own, so that sorted items are shared out evenly.
    """
    state = PartialState()
    rank, processes = state.process_index, state.num_processes
    mine = items[rank::processes]
    found: list = [None] * len(items)
    for owner, results in gather_object([(rank, list(work(mine)) if len(mine) else [])]):
        found[owner::processes] = results
    return found
