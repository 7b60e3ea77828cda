"""The card of a model: what travels in each checkpoint and logged model, and is enough to restore it.

It is read and written here alone, whatever its task and whichever version wrote it.
"""

import dataclasses
import json
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from string import Template
from typing import Any, ClassVar, Literal, Self

from finetune import InputError
from finetune.models.classifier.labels import Labels
from finetune.models.files import card_fields
from finetune.models.files.replacing import replace_file
from finetune.models.files.schemas import Kind, check, one_of, read_json, shown, text

CARD = "finetune.json"
MEND = "take another checkpoint, or one that was logged (`log_model.py RUN --checkpoint STEP`)"
# The tasks of model cards.
TASKS = TEXT_TO_SQL, CLASSIFICATION, SUMMARIZATION = "text-to-sql", "classification", "summarization"
# Forms in which a model is logged that was not trained here: all weights of a folder, or none.
FULL_FORMS = CHECKPOINT, REFERENCE = "checkpoint", "reference"
Long = Literal["truncate", "window"]
SHORT = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the cards of all tasks say; a field with a default is not in the files of every version.

    Attributes:
        base_config: fields of the base's configuration, None where that was not recorded.
        base_fingerprint: of the weights in a folder, None for a base of the Hub.
        columns: what the rows of training call the task's columns.
        compute_dtype: what training computed in; `trained_in` says it for older files too.
        epoch, step: of the checkpoint; the step is in logged models only.
        form: in which the model was logged where that is not `adapter`: `merged`, `checkpoint` or `reference`.
        generation: parameters over those of `generation.DEFAULTS`, of a model that writes.
        metrics: of the last evaluation.
        quantized_fingerprint: of the same base stored in 4 bits, which `base_model` names then.
        sample: held-out rows to check a reloaded model with; empty in a logged model's metadata.
        unknown: what else the file has, of another version; it is written again as it was.
    """

    task: ClassVar[str]
    base_kind: ClassVar[Literal["decoder", "encoder", "encoder-decoder"]]
    kinds: ClassVar[dict[str, Kind]]

    base_model: str
    base_revision: str | None
    quantization: dict[str, Any] | None
    max_length: int
    base_fingerprint: str | None = None
    base_config: dict[str, Any] | None = None
    compute_dtype: str | None = None
    form: str | None = None
    quantized_fingerprint: str | None = None
    columns: dict[str, str] | None = None
    run_id: str = ""
    epoch: float | None = None
    step: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    sample: list[dict[str, Any]] = field(default_factory=list)
    unknown: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the card of a checkpoint or of a logged model's folder, of this class or of the task's.

        Raises:
            InputError: there is none, it is damaged, or it is another task's.
        """
        return cls.parse(read_json(folder / CARD, MEND), folder / CARD)

    def write(self, folder: Path) -> None:
        """Write the card into a folder, in place of one that is there."""
        replace_file(folder / CARD, json.dumps(self.values(), indent=2))

    @classmethod
    def parse(cls, values: object, where: Path | str) -> Self:
        """Return the card that a JSON object is.

        Raises:
            InputError: it is none, a field has a value that training does not write, or it is another task's.
        """
        classes = card_classes() | ({} if cls is Card else {cls.task: cls})
        found = check(values, {"task": one_of(*classes)}, where, MEND, others=lambda *_: True)
        kind = classes[found["task"]]
        if not issubclass(kind, cls):
            raise InputError(f"{where} is the card of a model for {kind.task}, expected one for {cls.task}.")
        required = {name: kind.kinds[name] for name in kind.required()}
        check(found, required, where, MEND, kind.kinds, others=lambda *_: True)
        names = {known.name for known in dataclasses.fields(kind)} - {"unknown"}
        unknown = {name: value for name, value in found.items() if name not in {*names, "task"}}
        # Null in one that may be missing says no more than that it is.
        known = {name: found[name] for name in names & found.keys() if name in required or found[name] is not None}
        return kind(**kind.take(known, where), unknown=unknown)

    def values(self) -> dict[str, Any]:
        """Return the card as a JSON object: without what is not known, but for what every file has."""
        found = {known.name: getattr(self, known.name) for known in dataclasses.fields(self)}
        unknown, required = found.pop("unknown"), self.required()
        found = {name: value for name, value in found.items() if name in required or value not in (None, "", {}, [])}
        return {"task": self.task} | found | unknown

    @property
    def trained_in(self) -> str:
        """The type that training computed in: `bf16`, `fp16` or `fp32`."""
        # Cards from before it stood there name it for 4-bit layers.
        return self.compute_dtype or SHORT[(self.quantization or {}).get("bnb_4bit_compute_dtype", "float32")]

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """The sample as rows to ask the model with."""
        return self.sample

    @classmethod
    def required(cls) -> list[str]:
        """Return the fields that the file of every version has."""
        known = dataclasses.fields(cls)
        return [one.name for one in known if one.default is MISSING and one.default_factory is MISSING]

    @classmethod
    def take(cls, values: dict[str, Any], where: Path | str) -> dict[str, Any]:
        """Return fields as the class has them, from the file's; raise InputError where they do not go together."""
        return values


@dataclass(frozen=True, kw_only=True)
class SqlCard(Card):
    """What the card of a text-to-SQL model says besides; its sample has the ids of each prompt, `prompt_ids`."""

    task = TEXT_TO_SQL
    base_kind = "decoder"
    kinds = card_fields.EVERY | card_fields.SQL

    prompt: str
    dialect: str = "sqlite"  # All data was, once.
    sample_values: int | None = None  # of each column of --database, in the schema's text; none in older files

    @property
    def trained_in(self) -> str:
        """The type that training computed in; once that was bfloat16 wherever a decoder was trained."""
        return self.compute_dtype or "bf16"

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """The sample as rows to ask the model with: what its prompt has."""
        return [{name: row[name] for name in Template(self.prompt).get_identifiers()} for row in self.sample]

    @classmethod
    def take(cls, values: dict[str, Any], where: Path | str) -> dict[str, Any]:
        variables = {name: text() for name in Template(values["prompt"]).get_identifiers()}
        for row in values.get("sample", ()):
            check(row, variables, f"{where}, sample,", MEND, others=lambda *_: True)
        return values


@dataclass(frozen=True, kw_only=True)
class ClassifierCard(Card):
    """What the card of a classifier says besides; its base may be a decoder, read without its head.

    Attributes:
        thresholds: one for each output; None before the first evaluation, and where classes exclude each other.
        tfidf: `share`, by which the distances of a linear SVM on TF-IDF are added to the logits, and `digest` of its
            file; None for the adapter alone.
    """

    task = CLASSIFICATION
    base_kind = "encoder"
    kinds = card_fields.EVERY | card_fields.CLASSIFIER

    labels: Labels
    pooling: Literal["mean", "cls", "last"]
    long_texts: Long
    thresholds: list[float] | None
    tfidf: dict[str, Any] | None = None

    def values(self) -> dict[str, Any]:
        """Return the card as a JSON object."""
        return super().values() | {"labels": {"task": self.labels.task, "names": list(self.labels.names)}}

    @classmethod
    def take(cls, values: dict[str, Any], where: Path | str) -> dict[str, Any]:
        labels = Labels(values["labels"]["task"], tuple(values["labels"]["names"]))
        names, thresholds = labels.names, values["thresholds"]
        if len(set(names)) != len(names) or (labels.task == "binary" and len(names) != 2):
            raise InputError(f"{where} is damaged: the names of its labels are {shown(list(names))}; {MEND}.")
        if thresholds is not None and len(thresholds) != labels.outputs:
            raise InputError(f"{where} is damaged: {len(thresholds)} thresholds for {len(names)} labels; {MEND}.")
        rows = [{"text": row} if isinstance(row, str) else row for row in values.get("sample", ())]
        return values | {"labels": labels, "sample": rows}


@dataclass(frozen=True, kw_only=True)
class SummarizerCard(Card):
    """What the card of a summarizer says besides."""

    task = SUMMARIZATION
    base_kind = "encoder-decoder"
    kinds = card_fields.EVERY | card_fields.SUMMARIZER

    prompt: str
    long_texts: Long
    # In every file, unlike the other tasks'.
    columns: dict[str, str] = field()
    generation: dict[str, Any] = field()


def card_classes() -> dict[str, type[Card]]:
    """Return the class of each task's cards by the task's name: of these here, and of others that were imported."""
    return {kind.task: kind for kind in Card.__subclasses__()}
