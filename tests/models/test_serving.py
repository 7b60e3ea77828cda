"""Models behind MLflow's scoring server, and as Python functions: what is no text, or no parameter, is refused."""

import json
import shutil
from pathlib import Path

import predict
from finetune.logged_models.entries import write_digests
from finetune.logged_models.opening import open_model
from finetune.models.files.digests import digests_of

import mlflow
import pandas as pd
import pytest
from conftest import CONTEXT, DEMO_BASE, QUESTIONS, call
from fastapi.testclient import TestClient
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server


def client(uri: str) -> TestClient:
    """Return a client of the server that `mlflow models serve` starts for a model."""
    return TestClient(scoring_server.init(mlflow.pyfunc.load_model(uri)))


def refused(server: TestClient, body: dict, part: str) -> None:
    """Assert that a request is answered with status 400 and a sentence, not with a traceback."""
    answer = server.post("/invocations", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, (body, answer.text)
    assert part in answer.json()["message"], (body, answer.text)
    assert "stack_trace" not in answer.json(), body


NO_TEXTS = ((None, "is null"), (3, "is 3, no text"), (0.5, "is 0.5, no text"), (True, "is True, no text"),
            ("", "is empty"), (" \n", "is empty"), (["a"], "is ['a'], no text"))  # fmt: skip
COUNTS = ((0, "batch_size is 0; expected a whole number of at least 1"), (-1, "batch_size is -1"), (2.5, "batch_size"),
          ("many", "batch_size"), (None, "batch_size is null"), (10**12, "at most 1000000"))  # fmt: skip


def test_a_served_classifier_refuses_what_predict_refuses(logged_classifier):
    server = client(logged_classifier["uri"])
    for value, part in NO_TEXTS:
        refused(server, {"dataframe_split": {"columns": ["text"], "data": [["a"], [value]]}}, f"text 2 {part}")
        refused(server, {"dataframe_records": [{"text": value}]}, f"text 1 {part}")
        if not isinstance(value, list):
            refused(server, {"inputs": ["a", value]}, f"text 2 {part}")
            refused(server, {"instances": [value, "a"]}, f"text 1 {part}")
    refused(server, {"inputs": [["a", "b"]]}, "row 1 has 2 values; expected one text a row")
    refused(server, {"instances": [["a"], ["b", "c"]]}, "row 2 has 2 values")
    refused(server, {"inputs": [{"text": ["a", "b"]}]}, "text 1 is ['a', 'b'], no text")
    refused(server, {"inputs": [{"text": "a"}, {"name": "b"}]}, "text 2 is null")
    for rows in ([["a"]], [{"text": "a", "id": 1}], "a"):
        assert len(server.post("/invocations", json={"inputs": rows}).json()["predictions"]) == 1
    for value, part in COUNTS:
        refused(server, {"inputs": ["a"], "params": {"batch_size": value}}, part)
    for value in (2, -0.1, "high", True, [0.5]):
        refused(server, {"inputs": ["a"], "params": {"threshold": value}}, "threshold")
    refused(server, {"inputs": ["a"], "params": {"thresold": 0.5}}, "no parameter thresold; it has threshold, batch")
    fine = {"inputs": ["a", "1984"], "params": {"threshold": None, "batch_size": 1}}
    assert len(server.post("/invocations", json=fine).json()["predictions"]) == 2
    nothing = {"dataframe_split": {"columns": ["text"], "data": []}}
    assert server.post("/invocations", json=nothing).json() == {"predictions": []}


def test_a_served_summarizer_refuses_what_predict_refuses(logged_summarizer):
    server = client(logged_summarizer["uri"])
    for value, part in NO_TEXTS:
        refused(server, {"dataframe_split": {"columns": ["article"], "data": [["a"], [value]]}}, f"article 2 {part}")
        refused(server, {"inputs": [{"article": value}]}, f"article 1 {part}")
        refused(server, {"instances": [{"article": value}]}, f"article 1 {part}")
    for value in (None, 3):
        refused(server, {"inputs": [value]}, "article 1")
    one = {"inputs": [{"article": "A storm hit Kelso."}]}
    for value, part in COUNTS:
        refused(server, one | {"params": {"batch_size": value}}, part)
    impossible = {"max_new_tokens": 10**9, "num_beams": 10**6, "temperature": 0.0, "top_p": 2.0,
                  "repetition_penalty": -1.0, "no_repeat_ngram_size": -1}  # fmt: skip
    for name, value in impossible.items():
        refused(server, one | {"params": {name: value}}, f"{name} is {value}; expected a")
        refused(server, one | {"params": {name: None}}, f"{name} is null; expected a")
    refused(server, one | {"params": {"max_tokens": 3}}, "no parameter max_tokens; it has max_new_tokens")
    answer = server.post("/invocations", json=one | {"params": {"max_new_tokens": 2, "num_beams": 2}})
    assert len(answer.json()["predictions"]) == 1


def test_a_served_text_to_sql_model_refuses_what_mlflow_can_refuse(logged_model):
    """It is a plain model of MLflow's own flavour; README says to what else that answers."""
    server = client(logged_model["uri"])
    for value in (None, 3, 0.5, True):
        for body in ({"inputs": [value]}, {"inputs": ["a", value]}, {"instances": [value]}):
            refused(server, body, "")
    refused(server, {"inputs": ["a"], "params": {"max_new_tokens": "few"}}, "max_new_tokens")


def test_python_is_told_of_a_misspelt_parameter_too(logged_classifier, logged_summarizer):
    model = mlflow.pyfunc.load_model(logged_classifier["uri"])
    for params, part in (({"thresold": 0.5}, "no parameter thresold"), ({"batch_size": 0}, "batch_size is 0")):
        with pytest.raises(MlflowException, match=part) as error:
            model.predict("a text", params=params)
        assert error.value.error_code == "INVALID_PARAMETER_VALUE"
    with pytest.raises(MlflowException, match="row 2 has 2 values"):
        model.predict([["a"], ["b", "c"]])
    with pytest.raises(MlflowException, match="text 2 is null"):
        model.predict(pd.DataFrame({"text": ["a", None]}))
    assert len(model.predict(["a", "b"], params={"batch_size": 1})) == 2
    model = mlflow.pyfunc.load_model(logged_summarizer["uri"])
    with pytest.raises(MlflowException, match="no parameter beams"):
        model.predict(pd.DataFrame({"article": ["a"]}), params={"beams": 2})


@pytest.fixture
def without_base(monkeypatch):
    """Let a model's recorded base be in a folder that is gone."""

    def move(uri: str) -> str:
        folder = Path(mlflow.artifacts.download_artifacts(uri))
        for path in folder.rglob("*"):
            if path.name == "MLmodel" or path.name == "finetune.json":
                base = open_model(uri).card.base_model
                path.write_text(path.read_text().replace(base, "/gone/base"))
        write_digests(folder, digests_of(folder))  # as if it had been logged so
        return str(folder)

    return move


def test_a_base_that_has_moved_is_asked_for_in_the_words_of_who_asks(
    logged_classifier, logged_summarizer, tiny_roberta, tiny_t5, without_base, tmp_path
):
    for logged, base, text in ((logged_classifier, tiny_roberta, "text"), (logged_summarizer, tiny_t5, "article")):
        moved = without_base(logged["uri"])
        in_a_script = call(predict.main, moved, "--text", "a")
        assert in_a_script.endswith("is no longer in /gone/base; give its folder with --base-model.")
        with pytest.raises(MlflowException) as error:
            mlflow.pyfunc.load_model(moved)
        assert 'model_config={"base_model": FOLDER}' in error.value.message
        assert "--" not in error.value.message
        found = shutil.copytree(base, tmp_path / text)
        model = mlflow.pyfunc.load_model(moved, model_config={"base_model": str(found)})
        assert len(model.predict(pd.DataFrame({text: ["a"]}))) == 1


def test_plain_mlflow_finds_the_moved_base_of_a_text_to_sql_model(logged_model, without_base, tmp_path):
    moved = without_base(logged_model["uri"])
    assert "give its folder with --base-model" in call(predict.main, moved, "--question", "q", "--context", "c")
    base = shutil.copytree(DEMO_BASE, tmp_path / "base")
    pipeline = mlflow.transformers.load_model(moved, base_model_path=str(base))
    template = mlflow.models.get_model_info(moved).metadata["prompt_template"]
    text = template.format(prompt=f"{CONTEXT}\n\n### Question\n{QUESTIONS[0]}")
    (answer,) = pipeline(text, return_full_text=False, max_new_tokens=64, do_sample=False)
    assert answer["generated_text"].startswith("SELECT")
