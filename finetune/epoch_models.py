"""Each checkpoint of a training run as a model of its own in MLflow."""

import logging
from pathlib import Path

from finetune import tracking
from finetune.checkpoints import checkpoints_of, load_card
from finetune.classifiers import log_classifier
from finetune.logged_models import logged_models

import mlflow
from mlflow.data.dataset import Dataset
from mlflow.entities import LoggedModelStatus
from transformers import TrainerCallback

logger = logging.getLogger(__name__)


class EpochModelCallback(TrainerCallback):
    """Logs each checkpoint as a model of the run, linked to its metrics and to the validation data set.

    The models are `runs:/RUN/checkpoint-<step>`. What a killed run did not come to log is logged when it goes on.
    """

    def __init__(self, run_id: str, dataset: Dataset):
        self.run_id, self.dataset = run_id, dataset

    def on_train_begin(self, args, state, control, **kwargs):
        """Log the checkpoints that are on disk and have no model yet."""
        run = mlflow.get_run(self.run_id)
        logged = {model.name for model in logged_models(run) if model.status == LoggedModelStatus.READY}
        for step, folder in checkpoints_of(run).items():
            if f"checkpoint-{step}" not in logged:
                self.log_model(folder)

    def on_save(self, args, state, control, **kwargs):
        """Log the checkpoint that has just been saved."""
        self.log_model(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def log_model(self, folder: Path) -> None:
        """Log one checkpoint; training goes on where MLflow fails, the checkpoint is on disk all the same."""
        try:
            mlflow.flush_async_logging()
            model_id = log_classifier(mlflow.get_run(self.run_id), folder, folder.name)
            metrics = {f"validation_{name}": value for name, value in load_card(folder)["metrics"].items()}
            step = int(folder.name.split("-")[1])
            tracking.log_metrics(metrics, step, self.run_id, self.dataset, model_id)
        except Exception as error:
            logger.warning(f"{folder.name} was not logged ({error}); it is in {folder}. Log it with log_model.py.")
