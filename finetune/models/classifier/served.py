"""The code of a logged classifier: `mlflow.pyfunc.load_model("runs:/<id>/model").predict("...")` runs this."""

from finetune import InputError
from finetune.models.classifier.classifier import Classifier, check_threshold
from finetune.models.serving import check_width, known_parameters, refusals, refuse_no_texts, restore

import mlflow
import pandas as pd


class ServedClassifier(mlflow.pyfunc.PythonModel):
    """Texts to labels with scores.

    `load_model(uri, model_config={"base_model": FOLDER})` finds a base that has moved; `"compute_dtype": "auto"`
    computes in what the machine is fast at, not in what training did.
    """

    def load_context(self, context) -> None:
        """Restore base, adapter, head and tokenizer."""
        self.classifier = restore(Classifier, context)

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """Return one row a text: `labels`, a list of names, and `scores`, a score by name.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE (status 400 when served) for what is no text or an empty one,
                a column other than `text`, or a parameter that is unknown or impossible.
        """
        with refusals():
            parameters = known_parameters(params)
            check_width()
            texts = _texts(model_input)
            check_threshold(self.classifier.card, parameters.get("threshold"))
            if not texts:
                return pd.DataFrame({"labels": [], "scores": []})
            found = self.classifier.answer(self.classifier.encode([{"text": text} for text in texts]), **parameters)
        return pd.DataFrame(found)


def _texts(model_input: pd.DataFrame) -> list[str]:
    # MLflow has made a table of whatever was given; its first column is all that arrives here.
    column = model_input.columns[0]
    if column not in (0, "0", "text"):
        raise InputError(f"expected texts, or a table whose first column is `text`; found the column {column!r}.")
    return refuse_no_texts(model_input[column].tolist(), "text")


mlflow.models.set_model(ServedClassifier())
