"""The code of a logged summarizer: `mlflow.pyfunc.load_model("runs:/<id>/model").predict(table)` runs this."""

from finetune.models.serving import known_parameters, refusals, refuse_no_texts, restore
from finetune.models.summarizer.summarizer import Summarizer

import mlflow
import pandas as pd


class ServedSummarizer(mlflow.pyfunc.PythonModel):
    """Articles to summaries.

    `load_model(uri, model_config={"base_model": FOLDER})` finds a base that has moved; `"compute_dtype": "auto"`
    computes in what the machine is fast at, not in what training did.
    """

    def load_context(self, context) -> None:
        """Restore base, adapter and tokenizer."""
        self.summarizer = restore(Summarizer, context)

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """Return one row an article, with its `summary`.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE (status 400 when served) for what is no text or an empty one, or
                a parameter that is unknown or impossible.
        """
        with refusals():
            parameters = known_parameters(params)
            articles = refuse_no_texts(model_input["article"].tolist(), "article")
            found = self.summarizer.summarize(articles, **parameters)
        return pd.DataFrame({"summary": [summary.text for summary in found]})


mlflow.models.set_model(ServedSummarizer())
