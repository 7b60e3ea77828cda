"""The code of a logged classifier: `mlflow.pyfunc.load_model("runs:/<id>/model").predict("...")` runs this."""

from pathlib import Path

from finetune.classifiers import load_classifier
from finetune.console import InputError

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE


class ServedClassifier(mlflow.pyfunc.PythonModel):
    """Texts to labels with scores.

    `load_model(uri, model_config={"base_model": FOLDER})` finds a base that has moved; `"compute_dtype": "auto"`
    computes in what the machine is fast at, not in what training did.
    """

    def load_context(self, context) -> None:
        """Restore base, adapter, head and tokenizer."""
        config = context.model_config or {}
        folder = Path(context.artifacts["checkpoint"])
        self.classifier = load_classifier(
            folder,
            config.get("base_model"),
            config.get("precision"),
            compute_dtype=config.get("compute_dtype") or "recorded",
        )

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """Return one row a text: `labels`, a list of names, and `scores`, a score by name.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE (status 400 when served) for an empty text, a column
                other than `text`, or an impossible threshold.
        """
        params = params or {}
        try:
            texts = _texts(model_input)
            scores = self.classifier.score(texts, params.get("batch_size") or 32)
            decided = self.classifier.decide(scores, params.get("threshold"))
        except InputError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        return pd.DataFrame(self.classifier.name(scores, decided))


def _texts(model_input: pd.DataFrame) -> list[str]:
    # MLflow has made a table of whatever was given; its first column is all that arrives here.
    column = model_input.columns[0]
    if column not in (0, "0", "text"):
        raise InputError(f"expected texts, or a table whose first column is `text`; found the column {column!r}.")
    texts = model_input[column].tolist()
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"text {number} is empty; expected a sentence or clause.")
    return texts


mlflow.models.set_model(ServedClassifier())
