"""Rows held out for validation by their labels: nearly equal texts are all held out, or none of them."""

import logging
from collections import Counter
from random import Random

from finetune import InputError
from finetune.models.classifier.labels import as_name, labels_of
from finetune.rows.labels import spell_out
from finetune.rows.splits.near_texts import near_groups

logger = logging.getLogger(__name__)


def hold_out_by_label(
    rows: list[dict], fraction: float, seed: int, names: list[str] | None = None, columns: list[str] | None = None
) -> tuple[list[dict], list[dict]]:
    """Return training and validation rows: about `fraction` of the rows of each label are for validation.

    Args:
        rows: with `text`, and `labels`, `label` or `columns` of 0 and 1.
        names, columns: as `labels.spell_out` takes them.

    Raises:
        InputError: labels that cannot be read, or all texts of each label are nearly equal.
    """
    spelt, _ = spell_out(rows, names, columns, "the rows")
    labels = []
    for number, row in enumerate(spelt, start=1):
        where = f"row {number} of the rows"
        labels.append({as_name(label, where) for label in labels_of(row, where)} or {"no label"})
    return _hold_out(rows, [row["text"] for row in rows], labels, fraction, seed)


def hold_out_by_text(rows: list[dict], fraction: float, seed: int) -> tuple[list[dict], list[dict]]:
    """Return training and validation rows of an article: about `fraction` of them are for validation.

    Raises:
        InputError: all articles are nearly equal.
    """
    return _hold_out(rows, [row["article"] for row in rows], [{"rows"}] * len(rows), fraction, seed)


def _hold_out(rows: list[dict], texts: list[str], labels: list[set[str]], fraction: float, seed: int):
    groups: dict[int, list[int]] = {}
    for place, group in enumerate(near_groups(texts)):
        groups.setdefault(int(group), []).append(place)
    # Rows of each label in each group.
    counts = {group: Counter(label for place in places for label in labels[place]) for group, places in groups.items()}
    held = _choose(counts, fraction, Random(seed))
    if not held:
        raise InputError(
            "--validation-fraction: no row can be held out, since the texts of each label are all nearly equal (70 % of"
            " their words are the same), and a copy that was trained on tests memory. Give other rows for validation."
        )
    is_held = {place for group in held for place in groups[group]}
    parts = [[row for place, row in enumerate(rows) if (place in is_held) == part] for part in (False, True)]
    logger.info(
        f"Held out {len(parts[1])} of {len(rows)} rows ({len(parts[1]) / len(rows):.1%}; asked for {fraction:.1%}) by"
        f" label; nearly equal texts stay together: the rows are {len(groups)} different texts."
    )
    Random(seed).shuffle(parts[0])
    return tuple(parts)


def _choose(counts: dict[int, Counter], fraction: float, random: Random) -> set[int]:
    """Return the groups to hold out: of each label about a fraction of the rows, the rarest label first."""
    total = sum(counts.values(), Counter())
    training = Counter(label for labels in counts.values() for label in labels)  # groups of each label
    held: set[int] = set()
    for label in sorted(total, key=lambda name: (total[name], name)):
        wanted = max(1, round(fraction * total[label]))
        have = sum(counts[group][label] for group in held)
        own = sorted(group for group, labels in counts.items() if label in labels and group not in held)
        random.shuffle(own)
        # A group larger than what is wanted is the last resort, the smallest of them.
        for group in sorted(own, key=lambda group: max(0, counts[group][label] - wanted)):
            enough = have >= wanted or (have > 0 and counts[group][label] > wanted)
            if not enough and all(training[name] > 1 for name in counts[group]):
                held.add(group)
                have += counts[group][label]
                training.subtract(counts[group].keys())
        if not have:
            why = "their texts are all nearly equal" if total[label] > 1 else "it has one alone, which trains"
            logger.warning(f"no row of the label {label} is held out: {why}.")
    return held
