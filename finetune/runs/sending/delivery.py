"""Entries of a journal put into MLflow: each can be applied again, after a cut in the middle, and arrives once."""

import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from finetune import PACKAGE
from finetune.logged_models.checkpoint_files import step_of
from finetune.logged_models.entries import logged_models
from finetune.logged_models.writing.checkpoints_as_models import log_checkpoint
from finetune.models.card import CARD, Card
from finetune.models.files.inside import delete_numbered
from finetune.models.files.replacing import replace_file
from finetune.runs import stores, trackers
from finetune.runs.sending import uploads
from finetune.runs.sending.spool import OFFLINE_TAG, place_of, read_header
from finetune.screen import DETAIL

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelStatus, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_LOGGED_ARTIFACTS
from mlflow.utils.validation import MAX_PARAMS_TAGS_PER_BATCH

logger = logging.getLogger(__name__)
DRIFT = "param_drift."
SYSTEM = "system/"  # Their steps count samples, and go on where an earlier process stopped.


def is_reachable(timeout: float = 2) -> bool:
    """Say whether the tracking server, or the database, answers."""
    return stores.answers(mlflow.get_tracking_uri(), timeout)


class Delivery:
    """Applies entries to one run.

    Attributes:
        header: what the run is made of where MLflow does not know it yet.
        run_id: in MLflow; None until an offline run is made there.
        skeleton: a decoder without weights for logging checkpoints, which only the main thread may build.
    """

    def __init__(self, spool: Path, header: Path):
        self.spool, self._header = spool, header
        self.header = read_header(header)
        self.run_id: str | None = self.header["run_id"]
        self.client, self.skeleton = mlflow.MlflowClient(), None
        self.keep: list[int] | None = None
        self._points: dict[str, dict[int, int]] | None = None  # time of each point, by metric and step
        self._losses: dict[int, Metric] = {}  # eval_loss by step

    @property
    def ids(self) -> set[str]:
        """The ids that the run has had."""
        return {self.header["run_id"], self.header.get("offline_id")} - {None}

    def apply(self, entries: list[dict]) -> None:
        """Put one entry, or several of metrics, into MLflow."""
        if self.run_id is None:
            self.make_run()
        if self._points is None:
            self._load()
        getattr(self, f"_apply_{entries[0]['op']}")(entries)

    def make_run(self) -> None:
        """Make the run of an offline training, with its own start time."""
        header = self.header
        experiment = find_experiment(header["experiment"])
        found = self.client.search_runs([experiment], f"tags.`{OFFLINE_TAG}` = '{header['offline_id']}'")
        tags = header["tags"] | {OFFLINE_TAG: header["offline_id"]}
        run = found[0] if found else self.client.create_run(experiment, header["start_time"], tags)
        header["run_id"] = self.run_id = run.info.run_id
        replace_file(self._header, json.dumps(header))
        logger.info(f"{header['offline_id']} is run {self.run_id} in MLflow.")

    def try_to_end(self, status: str) -> None:
        """Set the status now, if that can be done; the journal's own entry does it otherwise."""
        try:
            if self.run_id and is_reachable(timeout=1):
                self.client.set_terminated(self.run_id, status)
        except Exception as error:
            logger.debug(f"status not set at once: {error}")

    def _load(self) -> None:
        """Read what the run has: points that a resumed training computes again are not sent twice."""
        data = self.client.get_run(self.run_id).data
        self.params, points = dict(data.params), {}
        for key in data.metrics:
            if not key.startswith(SYSTEM):
                history = self.client.get_metric_history(self.run_id, key)
                points[key] = {metric.step: metric.timestamp for metric in history}
                if key == "eval_loss":
                    self._losses = {metric.step: metric for metric in history}
        self._points = points

    def _apply_metrics(self, entries: Iterable[dict]) -> None:
        assert self._points is not None  # apply has read them.
        new = []
        for entry in entries:
            name, digest = entry.get("dataset") or (None, None)
            for key, value, moment, step in entry["points"]:
                metric = Metric(key, value, moment, step, dataset_name=name, dataset_digest=digest, run_id=self.run_id)
                # The same time: sent before, but perhaps the answer was lost; MLflow keeps one of equal points.
                if key.startswith(SYSTEM) or self._points.setdefault(key, {}).setdefault(step, moment) == moment:
                    new.append(metric)
                    if key == "eval_loss":
                        self._losses[step] = metric
        if new:
            self.client.log_batch(self.run_id, metrics=new)

    def _apply_params(self, entries: list[dict]) -> None:
        """Log new parameters; one that has another value than before becomes a tag, as parameters cannot change."""
        values = entries[0]["values"]
        changed = {name for name, value in values.items() if self.params.get(name, value) != value}
        self.set_tags({DRIFT + name: f"{self.params[name]} -> {values[name]}" for name in changed})
        new = [Param(name, value) for name, value in values.items() if name not in self.params]
        for start in range(0, len(new), MAX_PARAMS_TAGS_PER_BATCH):
            self.client.log_batch(self.run_id, params=new[start : start + MAX_PARAMS_TAGS_PER_BATCH])
        self.params |= {param.key: param.value for param in new}

    def set_tags(self, tags: dict[str, str]) -> None:
        """Set tags of the run."""
        if tags:
            self.client.log_batch(self.run_id, tags=[RunTag(name, value[:5000]) for name, value in tags.items()])

    def _apply_tags(self, entries: list[dict]) -> None:
        self.set_tags(entries[0]["values"])

    def _apply_untag(self, entries: list[dict]) -> None:
        if entries[0]["name"] in self.client.get_run(self.run_id).data.tags:
            self.client.delete_tag(self.run_id, entries[0]["name"])

    def _apply_input(self, entries: list[dict]) -> None:
        tags = [InputTag(MLFLOW_DATASET_CONTEXT, entries[0]["context"])]
        dataset = Dataset.from_dictionary(entries[0]["dataset"])
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])

    def _apply_file(self, entries: list[dict]) -> None:
        path = place_of(entries[0], self.spool)
        if not path.exists():  # Sent, but not yet counted as sent.
            return
        self.client.log_artifact(self.run_id, str(path), entries[0].get("folder"))
        if table := entries[0].get("table"):
            tags = self.client.get_run(self.run_id).data.tags
            shown = json.loads(tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
            if (entry := {"path": table, "type": "table"}) not in shown:
                self.client.set_tag(self.run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*shown, entry]))
        delete_numbered(path.parent, self.spool)

    def _apply_checkpoint(self, entries: list[dict]) -> None:
        assert self.run_id is not None  # apply has made it.
        entry = entries[0]
        folder = place_of(entry, self.spool)
        if not (folder / CARD).is_file():
            return
        card = Card.read(folder)
        if card.run_id != self.run_id:  # Trained offline.
            replace(card, run_id=self.run_id).write(folder)
        step = step_of(folder)
        keep, start, cost = self.keep or entry["keep"], time.perf_counter(), []
        # One that the Trainer has deleted meanwhile would be deleted here again.
        if step in keep:
            known = uploads.uploaded_steps(self.run_id)
            if step not in known or not entry["again"]:
                if step in known:  # Saved once more, with an evaluation that was cut off before.
                    uploads.delete(self.run_id, step)
                size = uploads.upload(self.run_id, folder)
                cost.append(f"{size / 1e6:.1f} MB of state in {time.perf_counter() - start:.1f} s")
            for other in known:
                if other not in keep:
                    uploads.delete(self.run_id, other)
        if entry["model"]:
            start = time.perf_counter()
            self._log_model(folder, step, entry["dataset"])
            cost.append(f"a model in {time.perf_counter() - start:.1f} s")
        if cost:
            logger.info(f"{folder.name} is in MLflow: {', '.join(cost)}", extra=DETAIL)
        delete_numbered(folder.parent, self.spool)

    def _log_model(self, folder: Path, step: int, dataset: tuple[str, str]) -> None:
        """Log a checkpoint as a model, with the metrics of its step linked to it and to the data set."""
        run, model_id = self.client.get_run(self.run_id), None
        for model in logged_models(run):
            if model.name == folder.name and model.status == LoggedModelStatus.READY:
                model_id = model.model_id
            elif model.name == folder.name:
                self.client.delete_logged_model(model.model_id)  # Cut off while it was logged.
        model_id = model_id or log_checkpoint(run, folder, folder.name, skeleton=self.skeleton)
        loss = self._losses.get(step)
        if loss and step not in (self._points or {}).get("validation_loss", {}):
            link_scores(run, folder, model_id, loss, dataset)

    def _apply_end(self, entries: list[dict]) -> None:
        if entries[0]["status"] == "RUNNING":  # A run that was cut off, and could not be resumed.
            self.client.update_run(self.run_id, "RUNNING")
        else:
            self.client.set_terminated(self.run_id, entries[0]["status"], entries[0]["time"])


def find_experiment(name: str) -> str:
    """Return the id of an experiment, which is made where there is none of the name.

    Raises:
        MlflowException: when it was deleted.
    """
    client = mlflow.MlflowClient()
    if found := client.get_experiment_by_name(name):
        if found.lifecycle_stage != "active":
            raise MlflowException(f"the experiment {name} was deleted; restore it, or give another with --experiment")
        return found.experiment_id
    # Without a place of its own, SQLite puts the artifacts into the folder the script is called from.
    local = mlflow.get_tracking_uri().startswith("sqlite:")
    place = PACKAGE.parent / "mlartifacts"
    try:
        return client.create_experiment(name, artifact_location=place.as_uri() if local else None)
    except MlflowException:
        if found := client.get_experiment_by_name(name):  # Another training has made it meanwhile.
            return found.experiment_id
        raise


def link_scores(run: Run, folder: Path, model_id: str, loss: Metric, dataset: Sequence[str]) -> None:
    """Log what a checkpoint scored on its validation rows, linked to its model and to these rows.

    MLflow links the metrics of the step by itself, but without the rows, and not a second time: these are named
    `validation_...`.

    Args:
        loss: the run's `eval_loss` at the checkpoint's step.
        dataset: name and digest of the rows.
    """
    found = {"loss": loss.value} | Card.read(folder).metrics
    values = [
        Metric(f"validation_{name}", value, loss.timestamp, loss.step, model_id, *dataset, run.info.run_id)
        for name, value in found.items()
    ]
    mlflow.MlflowClient().log_batch(run.info.run_id, metrics=values)
    trackers.show_metrics({metric.key: metric.value for metric in values}, loss.step, run.info.run_id)
