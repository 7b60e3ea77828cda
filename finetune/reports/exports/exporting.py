"""`log_model.py RUN --export FORM`: a folder for other programs, checked in the library that it is for."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from finetune import InputError
from finetune.logged_models.checkpoint_files import step_of
from finetune.logged_models.exports.adapter_folder import write_adapter
from finetune.logged_models.exports.folders import check_free, new_folder
from finetune.logged_models.exports.gguf import PACKAGE, check_package, find_converters, write_gguf
from finetune.logged_models.exports.merged_folder import write_merged
from finetune.logged_models.exports.model_card import write_card
from finetune.logged_models.exports.replaying import ask_exported, ask_trained
from finetune.models.card import Card
from finetune.reports.exports.agreement import Agreement, score
from finetune.runs import tracking

import mlflow
from mlflow.entities import Run

logger = logging.getLogger(__name__)
FOLDERS = ("peft", "safetensors", "gguf")
LIBRARIES = {"peft": "peft", "safetensors": "transformers", "gguf": PACKAGE}
TOLERANCE = 0.1
ROWS = 32  # that are compared
TABLES = ("scorecard/validation.json", "scorecard/test.json")  # of a run, with right answers
NO_ANSWERS = "They were not compared with the trained model's (--no-reload-check)."


def add_export_flags(group) -> None:
    """Declare what goes with --export."""
    group.add_argument("--output", type=Path, metavar="DIR", help="folder of --export; default: exports/RUN-FORM")
    group.add_argument("--overwrite", action="store_true", help="replace a folder that an earlier --export has written")
    group.add_argument(
        "--tolerance",
        type=float,
        metavar="SHARE",
        help="of --export: share of held-out answers that may differ from the trained model's; more end with status 1"
        f" [{TOLERANCE}]",
    )
    group.add_argument(
        "--llama-cpp", type=Path, metavar="DIR", help="of --export gguf: folder of llama.cpp with its converters"
    )


@dataclass
class Export:
    """An export that can be made: nothing is written yet."""

    form: str
    checkpoint: Path
    run: Run
    target: Path
    overwrite: bool
    tolerance: float
    is_checked: bool
    converters: dict[str, list[str]] = field(default_factory=dict)

    def make(self, why: str) -> bool:
        """Write the folder, compare its answers and log that into the run; return whether enough are the same.

        Args:
            why: it is this checkpoint.
        """
        card, found = Card.read(self.checkpoint), None
        with new_folder(self.target, self.overwrite) as folder:
            self._write(folder)
            if self.is_checked:
                found = self._compare(folder, card)
                logger.info(f"--export {self.form}: {found.sentence()}")
            about = f"run {self.run.info.run_id}, {why}"
            write_card(folder, self.form, card, about, found.sentence() if found else NO_ANSWERS)
        logger.info(f"--export {self.form}: {self.target} is written")
        if found is None:
            return True
        self._log(found)
        if not found.passed:
            logger.error(
                f"error: --export {self.form}: {1 - found.share:.0%} of the answers differ, more than --tolerance"
                f" {self.tolerance:g}; they stand in exports/{self.form}.json of the run."
            )
        return found.passed

    def _write(self, folder: Path) -> None:
        if self.form == "gguf":
            write_gguf(self.checkpoint, folder, self.converters)
        elif self.form == "peft":
            write_adapter(self.checkpoint, folder)
        else:
            write_merged(self.checkpoint, folder)

    def _compare(self, folder: Path, card: Card) -> Agreement:
        rows, library = rows_of(self.run, card), LIBRARIES[self.form]
        asked = ask_trained(self.checkpoint, rows)
        longest = max(map(len, asked.prompt_ids)) + 256
        others = {"file": str(path.resolve()), "context": longest} if (path := model_file(folder)) else {}
        found = ask_exported(library, folder, card, asked, **others)
        trained, exported = asked.joined(asked.answers), asked.joined(found["answers"])
        same = sum(one == other for one, other in zip(asked.prompt_ids, found["prompt_ids"], strict=True))
        agreement = Agreement(library, rows, trained, exported, len(asked.prompts), same, self.tolerance)
        if scored := score(card, rows, trained, exported):
            name, (before, after), agreement.scored = scored
            agreement.score = name, before, after
        return agreement

    def _log(self, found: Agreement) -> None:
        run_id = self.run.info.run_id
        mlflow.log_metrics(found.metrics(self.form), step=step_of(self.checkpoint), run_id=run_id)
        parity = "pass" if found.passed else "fail"
        mlflow.MlflowClient().set_tag(run_id, f"export_{self.form}_parity", parity)
        tracking.log_dict({"said": found.sentence(), "rows": found.table}, f"exports/{self.form}.json", run_id)


def model_file(folder: Path) -> Path | None:
    """Return the GGUF file of a merged model in a folder, None where there is none."""
    return next(folder.glob("model-*.gguf"), None)


def prepare_export(flags, run: Run, checkpoint: Path) -> Export | None:
    """Return the export that flags ask for, None for none of a folder.

    Raises:
        InputError: as `check_export`; or the folder is there.
    """
    form, run_id = flags.export, run.info.run_id
    converters = check_export(flags, run_id, Card.read(checkpoint))
    if form not in FOLDERS:
        return None
    target = flags.output or Path("exports") / f"{run_id}-{form}"
    check_free(target, flags.overwrite)
    tolerance = TOLERANCE if flags.tolerance is None else flags.tolerance
    return Export(form, checkpoint, run, target, flags.overwrite, tolerance, flags.reload_check, converters)


def check_export(flags, named: str, card: Card) -> dict[str, list[str]]:
    """Return the commands of the converters that an export needs.

    Args:
        named: the run, or what else log_model.py is to be given for one.

    Raises:
        InputError: it cannot be made: of this task, in the place of --output, or without a package or llama.cpp.
    """
    form = flags.export
    if flags.tolerance is not None and not 0 <= flags.tolerance <= 1:
        raise InputError(f"--tolerance {flags.tolerance:g} is a share of the answers; expected 0 to 1.")
    if form not in FOLDERS:
        given = [
            name
            for name in ("output", "overwrite", "llama_cpp", "tolerance")
            if getattr(flags, name) not in (None, False)
        ]
        if given:
            raise InputError(f"--{given[0].replace('_', '-')} is for --export {', '.join(FOLDERS)}.")
        return {}
    refuse_form(form, card)
    if flags.output:
        check_free(flags.output, flags.overwrite)
    converters = find_converters(flags.llama_cpp, named, card) if form == "gguf" else {}
    if form == "gguf" and flags.reload_check:
        check_package()
    return converters


def refuse_form(form: str, card: Card) -> None:
    """Raise InputError for a form that a task's models cannot have, with the one to take."""
    if card.base_kind == "encoder":
        raise InputError(
            f"--export {form}: no class of PEFT, transformers or llama.cpp holds this classifier as it was trained: its"
            f" head takes the {card.pooling} of the token states, normalised, where theirs have layers of their own in"  # type: ignore[attr-defined]
            " between. Take --export onnx, which needs no base either."
        )
    if card.base_kind == "encoder-decoder" and form == "gguf":
        raise InputError(
            f"--export gguf: {PACKAGE} answers with decoders only, so that nothing could be compared; take --export"
            " safetensors."
        )


def rows_of(run: Run, card: Card) -> list[dict]:
    """Return held-out rows to compare answers on: the card's sample, and of the run's scorecard, with right answers."""
    found = list(card.inputs)
    for name in TABLES:
        table = tracking.load_artifact_json(run.info.run_id, name)
        rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]] if table else []
        scored = [_as_row(row) for row in rows]
        inputs = list(card.inputs[0])
        known = {tuple(row[key] for key in inputs): row for row in scored if all(key in row for key in inputs)}
        found = [known.pop(tuple(row[key] for key in inputs), row) for row in found]
        found += list(known.values())
    return found[:ROWS]


def _as_row(row: dict) -> dict:
    """Return a row of a scorecard as one of a data set."""
    if "question" in row:
        return {"question": row["question"], "context": row.get("schema", ""), "answer": row.get("gold")}
    return {"article": row.get("article", ""), "summary": row.get("reference")}
