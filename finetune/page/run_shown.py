"""What a run has logged, for the page: rows of its scorecards, and its figures."""

import tempfile
from pathlib import Path

from finetune import InputError
from finetune.models.files.schemas import reason
from finetune.page.choosing import scores
from finetune.runs import tracking

import mlflow
from mlflow.exceptions import MlflowException

MOST_ROWS, MOST_FIGURES = 1000, 40


class RunShown:
    """The artifacts of one run, looked up when they are asked for."""

    def __init__(self, run_id: str):
        self.run_id = run_id
        self.names: list[str] = []

    def scorecards(self) -> dict:
        """Return the tables of scorecards by name: columns and rows."""
        found = {}
        for path in [*self._paths("scorecard", ".json"), *self._paths("mistakes", ".json")]:
            if table := tracking.load_artifact_json(self.run_id, path):
                found[path.removesuffix(".json")] = {"columns": table["columns"], "data": table["data"][:MOST_ROWS]}
        return {"tables": found}

    def figures(self) -> dict:
        """Return the names of the figures, and the scores."""
        self.names = self._paths("figures", ".png")[:MOST_FIGURES]
        return {"figures": self.names, "scores": scores(mlflow.get_run(self.run_id))}

    def figure(self, number: int) -> bytes:
        """Return a figure by its place among the names.

        Raises:
            InputError: there is none.
        """
        if not 0 <= number < len(self.names):
            raise InputError("there is no such figure.")
        with tempfile.TemporaryDirectory() as folder:
            name = self.names[number]
            path = mlflow.artifacts.download_artifacts(run_id=self.run_id, artifact_path=name, dst_path=folder)
            return Path(path).read_bytes()

    def _paths(self, folder: str, suffix: str) -> list[str]:
        """Return the paths of the artifacts in a folder that end so.

        Raises:
            InputError: the store cannot be asked, or has no such run.
        """
        try:
            found = mlflow.MlflowClient().list_artifacts(self.run_id, folder)
        except MlflowException as error:
            raise InputError(f"the run's artifacts cannot be read: {reason(error)}.") from error
        return sorted(one.path for one in found if one.path.endswith(suffix))
