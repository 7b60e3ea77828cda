"""Prompts: one text for training, the logged model and prediction."""

from finetune import InputError
from finetune.models.prompts import Prompt

import pytest
from mlflow.entities.model_registry import PromptVersion

ROW = {"question": "how {many}? $5 \\1 \\n \\u", "context": "CREATE TABLE t (a INT)", "answer": "unused"}


@pytest.mark.parametrize(
    "text",
    [
        Prompt.load("text_to_sql").text,
        'Braces {"a": 1} and $$5 stay.\n$context\n-- ${question}\n{}\n',
        "$question",
        "$context $question $context tail",
        "{$question} {{$question}} {{ }} $$question $$$question",
    ],
)
def test_the_template_of_mlflow_renders_the_same_text(text):
    prompt = Prompt(text)
    assert prompt.mlflow_template.format(prompt=prompt.model_input(ROW)) == prompt.render(ROW)
    in_registry = PromptVersion("a", 1, prompt.registry_template)
    assert in_registry.variables == set(prompt.variables)
    assert in_registry.format(**{name: ROW[name] for name in prompt.variables}) == prompt.render(ROW)


def test_dollars_and_braces_in_values_are_plain_text():
    assert "how {many}? $5" in Prompt.load("text_to_sql").render(ROW)


def test_all_missing_variables_are_named_in_one_error():
    with pytest.raises(InputError, match="context, question"):
        Prompt.load("text_to_sql").render({"answer": "x"})


def test_a_missing_file_and_a_prompt_without_variables_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no prompt file"):
        Prompt.load("missing")
    (tmp_path / "bare.txt").write_text("nothing here")
    monkeypatch.setattr("finetune.models.prompts.FOLDER", tmp_path)
    with pytest.raises(InputError, match=r"no \$variable"):
        Prompt.load("bare")
