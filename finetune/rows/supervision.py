"""From rows to token ids and labels, and the audit that shows what the loss will see."""

import logging
import statistics
from collections import Counter
from dataclasses import dataclass, field

from finetune.rows.packing import IGNORED
from finetune.screen import in_full

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


@dataclass
class Supervision:
    """Encoded rows of one split.

    Attributes:
        dataset: columns `input_ids`, `labels` (prompt positions -100) and `length` (tokens).
        rows: the kept rows, in the same order.
        dropped: number of dropped rows by reason.
    """

    dataset: Dataset
    rows: list[dict]
    dropped: Counter = field(default_factory=Counter)


def audit(splits: dict[str, Supervision], tokenizer: PreTrainedTokenizerBase, examples: int = 3) -> dict:
    """Return what the loss will see, split by split: counts, shares and decoded examples.

    `rows_without_supervised_eos` must be 0, or the model never learns to stop.
    """
    report: dict = {}
    for name, split in splits.items():
        supervised = tokens = without_eos = 0
        bos_counts: Counter = Counter()
        for ids, labels in zip(split.dataset["input_ids"], split.dataset["labels"], strict=True):
            given, answer = _parts(ids, labels)
            tokens += len(given) + len(answer)
            supervised += len(answer)
            without_eos += labels[-1] != tokenizer.eos_token_id
            if tokenizer.bos_token_id is not None and tokenizer.bos_token_id != tokenizer.eos_token_id:
                bos_counts[ids.count(tokenizer.bos_token_id)] += 1
        lengths = split.dataset["length"]
        report[name] = {
            "rows_given": len(split.rows) + sum(split.dropped.values()),
            "rows_kept": len(split.rows),
            "rows_dropped": dict(split.dropped),
            "tokens": tokens,
            "tokens_per_row_mean": round(tokens / len(lengths), 1),
            "tokens_per_row_median": statistics.median(lengths),
            "tokens_per_row_max": max(lengths),
            "supervised_tokens": supervised,
            "supervised_share": round(supervised / tokens, 4),
            "rows_without_supervised_eos": without_eos,
            "bos_tokens_per_row": {str(count): rows for count, rows in sorted(bos_counts.items())},
        }
    first = next(iter(splits.values())).dataset
    report["examples"] = [_marked(tokenizer, first[i]) for i in range(min(examples, len(first)))]
    return report


def show_audit(splits: dict[str, Supervision], tokenizer: PreTrainedTokenizerBase) -> dict:
    """Return the audit, which is shown in a line, and in full in the run."""
    report = audit(splits, tokenizer)
    logger.info(audit_headline(report), extra=in_full(format_audit(report)))
    return report


def _parts(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    """Return (what is given, what is supervised): a decoder's labels stand beside its ids, masked at the front."""
    masked = labels.count(IGNORED)
    return (ids[:masked], ids[masked:]) if masked else (ids, labels)


def _marked(tokenizer: PreTrainedTokenizerBase, example: dict) -> str:
    masked, supervised = map(tokenizer.decode, _parts(example["input_ids"], example["labels"]))
    return f"[masked]{masked}[/masked][supervised]{supervised}[/supervised]"


def audit_headline(report: dict) -> str:
    """Return in a line how many rows of each part are kept, and of how many tokens the answers are."""
    parts = [(name, part) for name, part in report.items() if name != "examples"]
    kept = [f"{part['rows_kept']} of {part['rows_given']} {name} rows" for name, part in parts]
    dropped = [f"{n} {why}" for _, part in parts for why, n in part["rows_dropped"].items()]
    without = sum(part["rows_without_supervised_eos"] for _, part in parts)
    ends = f"; {without} rows have no supervised end" if without else ""
    return (
        f"Data: {' and '.join(kept)}{', left out: ' * bool(dropped)}{', '.join(dropped)};"
        f" {parts[0][1]['supervised_share']:.1%} of the tokens are answers to learn{ends}"
    )


def format_audit(report: dict) -> str:
    """Return the audit as the text that is printed before training."""
    lines = ["Supervision audit"]
    for name, split in report.items():
        if name == "examples":
            continue
        dropped = ", ".join(f"{count} {reason}" for reason, count in split["rows_dropped"].items()) or "none"
        bos = ", ".join(f"{count} in {rows} rows" for count, rows in split["bos_tokens_per_row"].items()) or "no BOS"
        lines += [
            f"  {name}: {split['rows_given']} rows given - {split['rows_given'] - split['rows_kept']} dropped"
            f" ({dropped}) = {split['rows_kept']} kept",
            f"    {split['supervised_tokens']} of {split['tokens']} tokens supervised"
            f" = {split['supervised_share']:.1%}; {split['tokens_per_row_mean']} tokens a row,"
            f" longest {split['tokens_per_row_max']}",
            f"    rows without supervised EOS: {split['rows_without_supervised_eos']}; BOS tokens a row: {bos}",
        ]
    lines.append("  first examples:")
    for example in report["examples"]:
        lines.append("    " + example.replace("\n", "\n    "))
    return "\n".join(lines)
