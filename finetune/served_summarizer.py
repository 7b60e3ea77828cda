"""The code of a logged summarizer: `mlflow.pyfunc.load_model("runs:/<id>/model").predict(table)` runs this."""

from pathlib import Path

from finetune.console import InputError
from finetune.summarizers import load_summarizer

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE


class ServedSummarizer(mlflow.pyfunc.PythonModel):
    """Articles to summaries.

    `load_model(uri, model_config={"base_model": FOLDER})` finds a base that has moved; `"compute_dtype": "auto"`
    computes in what the machine is fast at, not in what training did.
    """

    def load_context(self, context) -> None:
        """Restore base, adapter and tokenizer."""
        config = context.model_config or {}
        folder = Path(context.artifacts["checkpoint"])
        self.summarizer = load_summarizer(
            folder,
            config.get("base_model"),
            config.get("precision"),
            compute_dtype=config.get("compute_dtype") or "recorded",
        )

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """Return one row an article, with its `summary`.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE (status 400 when served) for an empty article or parameters
                that generation refuses.
        """
        articles = model_input["article"].tolist()
        try:
            for number, article in enumerate(articles, start=1):
                if not isinstance(article, str) or not article.strip():
                    raise InputError(f"article {number} is empty; expected a text.")
            found = self.summarizer.summarize(articles, **(params or {}))
        except InputError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        return pd.DataFrame({"summary": [summary.text for summary in found]})


mlflow.models.set_model(ServedSummarizer())
