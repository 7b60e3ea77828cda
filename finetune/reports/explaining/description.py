"""A run explains itself: a short page as its description in MLflow, and with its figures as report.html."""

import base64
import logging
import tempfile
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from finetune.logged_models.checkpoint_files import TASK_TAG
from finetune.logged_models.entries import logged_models
from finetune.models.files.schemas import reason
from finetune.redaction import redact
from finetune.reports.scorecards.on_database import NAME as DATABASE
from finetune.runs import tracking

import mlflow
from mlflow.entities import LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

logger = logging.getLogger(__name__)
MEASURES = (DATABASE, "exec_accuracy", "macro_f1", "micro_f1", "rougeL", "f1", "accuracy")
OWN = "<!-- written by the scripts; what you write above this line stays -->"
FIGURES = 12
STYLE = """body { font: 16px/1.6 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color-scheme: light dark; overflow-wrap: anywhere; } table { border-collapse: collapse; } th, td { border: 1px solid
  #8888; padding: .3rem .6rem; text-align: left; } img { max-width: 100%; background: #fff; }"""


@dataclass
class Page:
    """A title, paragraphs, scores as rows of a table, and what to beware of."""

    title: str
    paragraphs: list[str]
    scores: list[tuple[str, ...]]
    commands: list[str]
    warnings: list[str] = field(default_factory=list)

    heading = ("rows", "measure", "trained", "95 %", "base")

    @property
    def markdown(self) -> str:
        """The page as MLflow shows it."""
        lines = [f"## {_plain(self.title)}", "", *(f"{_plain(text)}\n" for text in self.paragraphs)]
        if self.scores:
            lines += [f"| {' | '.join(row)} |" for row in (self.heading, ("---",) * 5, *self.scores)]
        lines += ["", "```", *self.commands, "```", "", *(f"- {_plain(text)}" for text in self.warnings)]
        return "\n".join(lines)

    def html(self, figures: dict[str, bytes]) -> str:
        """Return the page as one file.

        Args:
            figures: PNG files by their names.
        """
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self.scores)
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.heading)
        images = "".join(
            f'<figure><img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
            f"<figcaption>{escape(name)}</figcaption></figure>"
            for name, data in figures.items()
        )
        parts = [
            f"<h1>{escape(self.title)}</h1>", *(f"<p>{escape(text)}</p>" for text in self.paragraphs),
            f"<table><tr>{head}</tr>{rows}</table>" if self.scores else "",
            f"<pre>{escape(chr(10).join(self.commands))}</pre>",
            f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in self.warnings)}</ul>", images,
        ]  # fmt: skip
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
            f"<body>{''.join(parts)}</body></html>\n"
        )


def _plain(text: str) -> str:
    """Return a text that Markdown takes for nothing else."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>#|" else sign for sign in text)


def describe(run_id: str) -> None:
    """Write the description of a run and its report.html anew, of what it holds now; a store that refuses is said."""
    try:
        run = mlflow.get_run(run_id)
        page = page_of(run)
        before = run.data.tags.get(MLFLOW_RUN_NOTE, "")
        kept = before.partition(OWN)[0].strip() if OWN in before else before.strip()
        note = "\n\n".join(filter(None, [kept, f"{OWN}\n\n{page.markdown}"]))
        mlflow.MlflowClient().set_tag(run_id, MLFLOW_RUN_NOTE, redact(note))
        tracking.log_text(redact(page.html(_figures(run_id))), "report.html", run_id)
    except (MlflowException, OSError) as error:
        logger.warning(f"the description of run {run_id} is not written: {reason(error)}.")


def page_of(run: Run) -> Page:
    """Return what a run says of itself."""
    params, run_id = run.data.params, run.info.run_id
    about = f"An adapter of rank {params.get('lora.r', '?')} on {params.get('script.base_model', 'its base')}"
    rows = params.get("data.train_rows", "?")
    data = f"trained on {rows} rows of {params.get('data.source') or params.get('script.dataset', 'its data')}"
    if share := run.data.metrics.get("svm_share"):
        about += f" with a linear SVM on TF-IDF, whose distance, times {share:g}, is added to its logits"
    split = params.get("data.split_by")
    sentence = f"{about}, {data}{f' ({split})' if split else ''}."
    scores = scores_of(run.data.metrics)
    models = [one for one in logged_models(run) if one.status == LoggedModelStatus.READY]
    models.sort(key=lambda one: one.name != "model")  # What log_model.py logs by itself comes first.
    commands = [f"python predict.py runs:/{run_id}/{one.name}" for one in models[:1]]
    commands += [f"python try_model.py runs:/{run_id}/{one.name}" for one in models[:1]]
    commands = commands or [f"python log_model.py {run_id}"]
    title = f"{run.data.tags.get(TASK_TAG, 'a model')}: {run.info.run_name}"
    return Page(title, [sentence], scores, commands, warnings_of(run, scores, bool(models)))


def scores_of(metrics: dict[str, float]) -> list[tuple[str, ...]]:
    """Return the main scores as rows: of what, measure, score, its interval, the base's."""
    found: list[tuple[str, ...]] = []
    taken: set[str] = set()
    for measure in MEASURES:
        for name in sorted(set(metrics) - taken):
            part = name.removesuffix(f"_{measure}")
            if part == name:
                continue
            taken.add(name)  # Not to be read as a shorter measure's: exec_accuracy ends in accuracy.
            # The score of the model that it was compared with, and bounds of the difference, are not its own.
            if part.startswith("eval") or part.endswith(("labels", "binary", "_against", "_svm", "_lead")):
                continue
            low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
            interval = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""
            base = f"{metrics[f'{name}_base']:.3f}" if f"{name}_base" in metrics else ""
            svm = metrics.get(f"{part}_svm_{measure}")
            base = base if svm is None else f"SVM {svm:.3f}"
            found.append((part, measure, f"{metrics[name]:.3f}", interval, base))
    return found


def warnings_of(run: Run, scores: list[tuple[str, ...]], has_model: bool) -> list[str]:
    """Return what to beware of."""
    found, params, tags = [], run.data.params, run.data.tags
    base = params.get("script.base_model", "")
    if base.startswith(("/", ".")):
        found.append(f"The base is a folder, {base}: where it is not, give it with --base-model.")
    if not scores:
        found.append("There is no score yet: evaluate_model.py makes one.")
    elif all(row[0].startswith("validation") for row in scores):
        found.append("Scored on validation rows alone, which had a say in the model; a test part says more.")
    if float(params.get("data.leak_share") or 0) > 0:
        found.append(f"{float(params['data.leak_share']):.1%} of the held-out rows share something with training.")
    if tags.get("reload_parity") not in (None, "pass"):
        found.append(f"The reload check says {tags['reload_parity']}.")
    if tags.get("git.modified") == "true":
        found.append("The scripts had changes that were not committed.")
    if run.info.status not in ("FINISHED", "RUNNING"):
        found.append(f"The run is {run.info.status}.")
    return found


def _figures(run_id: str) -> dict[str, bytes]:
    paths = sorted(one.path for one in mlflow.MlflowClient().list_artifacts(run_id, "figures"))[:FIGURES]
    with tempfile.TemporaryDirectory() as folder:
        return {
            path: Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=folder))
            .read_bytes()
            for path in paths
            if path.endswith(".png")
        }  # fmt: skip
