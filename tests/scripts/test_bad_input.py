"""Bad input: one sentence, nothing half-written; as a process, status 2 and no traceback."""

import io
import json
import shutil
from functools import partial

import evaluate_model
import log_model
import predict
import train_classifier
import train_sql_generator
import train_summarizer
from finetune.logged_models.opening import LoggedModel
from finetune.models.bases.loading import load_config
from finetune.runs.lifecycle import rename_cards
from finetune.training.flags.script_parser import ScriptParser

import mlflow
import pytest
import torch
from conftest import (
    DEMO_BASE,
    DEMO_DATA,
    byte_level_tokenizer,
    call,
    demo_rows,
    logged_models,
    make_base,
    run_script,
    sentencepiece_tokenizer,
)
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, processors
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration

TRAIN = ("--base-model", DEMO_BASE, "--dataset", DEMO_DATA, "--max-steps", 1)


def runs() -> int:
    return sum(len(mlflow.search_runs([e.experiment_id], output_format="list")) for e in mlflow.search_experiments())


def refused(error: str | None, *parts: str) -> None:
    """Assert that a call was refused, in one line that holds all the parts."""
    assert error is not None
    assert "\n" not in error
    for part in parts:
        assert part in error, error


def train_refused(tmp_path, arguments, *parts: str) -> None:
    """Assert that training refuses, starts no run and writes nothing into its output folder."""
    before, output = runs(), tmp_path / "outputs"
    refused(call(train_sql_generator.main, *TRAIN, "--output-dir", output, *arguments), *parts)
    assert runs() == before
    assert not list(output.glob("*"))


@pytest.mark.parametrize(
    ("script", "arguments", "part"),
    [
        ("train_sql_generator.py", (*TRAIN, "--dataset", "absent.jsonl"), "there is no file absent.jsonl"),
        ("predict.py", ("runs:/0123abc/model", "--question", "q", "--context", "c"), "no model runs:/0123abc/model"),
    ],
)
def test_as_a_process_bad_input_is_one_sentence_and_status_2(script, arguments, part):
    done = run_script(script, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert part in line


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_missing_column(tmp_path):
    data = jsonl(tmp_path / "rows.jsonl", [{"question": "q", "schema": "s", "answer": "a"}] * 3)
    train_refused(tmp_path, ["--dataset", data], "no column context", "found question, schema, answer")


def test_an_empty_data_set(tmp_path):
    train_refused(tmp_path, ["--dataset", jsonl(tmp_path / "rows.jsonl", [])], "there are none")


def test_truncated_and_unreadable_files(tmp_path):
    data = tmp_path / "rows.jsonl"
    lines = [json.dumps(row) for row in demo_rows("train")[:5]]
    data.write_text("\n".join(lines)[:-20])
    train_refused(tmp_path, ["--dataset", data], "line 5", "not valid JSON")
    data.write_bytes(b"\xff\xfe broken")
    train_refused(tmp_path, ["--dataset", data], "is not utf-8 text")
    train_refused(tmp_path, ["--dataset", tmp_path / "none.jsonl"], "there is no file")
    (tmp_path / "rows.parquet").write_text("no parquet")
    train_refused(tmp_path, ["--dataset", tmp_path / "rows.parquet"], "cannot be read as parquet")


def test_validation_rows_that_were_trained_on(tmp_path):
    rows, folder = demo_rows("train")[:40], tmp_path / "leaking"
    folder.mkdir()
    jsonl(folder / "train.jsonl", rows)
    jsonl(folder / "validation.jsonl", [*rows[:3], *demo_rows("validation")[:20]])
    train_refused(tmp_path, ["--dataset", folder], "13.0% of the validation rows", "3 question", "--allow-leaks")


def test_rows_of_which_cleaning_leaves_none(tmp_path):
    rows = [row | {"answer": f"SELECT FROM WHERE {row['answer']}"} for row in demo_rows("train")[:8]]
    data = jsonl(tmp_path / "rows.jsonl", rows)
    train_refused(tmp_path, ["--dataset", data], "cleaning left no train row", "gold is not one query", "--no-clean")


def test_scoring_of_rows_that_are_not_there(tmp_path, logged_model):
    score = partial(call, evaluate_model.main, logged_model["uri"], "--dataset")
    refused(score(tmp_path / "none.jsonl"), "there is no file")
    refused(score(DEMO_DATA, "--split", "holdout"), "--split: split is 'holdout'; expected train, validation or test")
    refused(score(DEMO_DATA, "--max-rows", 0), "--max-rows 0 must be at least 1")
    refused(score(jsonl(tmp_path / "rows.jsonl", [{"question": "q"}])), "no column context, answer")
    corrupt = [{"question": "q", "context": "CREATE TABLE t (a INT)", "answer": "SELECT b FROM t"}]
    refused(score(jsonl(tmp_path / "rows.jsonl", corrupt)), "no row of", "gold does not run on its schema")
    refused(call(evaluate_model.main, "runs:/0123abc/model", "--dataset", DEMO_DATA), "no model runs:/0123abc/model")


def test_an_unknown_hub_data_set(tmp_path):
    train_refused(tmp_path, ["--dataset", "nobody/nothing"], "nobody/nothing", "--dataset demo/text_to_sql.jsonl")


def test_unknown_flags_and_impossible_values(tmp_path):
    train_refused(tmp_path, ["--lora-rank", 4], "unknown flag --lora-rank")
    train_refused(tmp_path, ["--lora-r", "many"], "--lora")
    train_refused(tmp_path, ["--lora-r", 0, "--lora-dropout", 1, "--validation-fraction", 2],
                  "--lora-r 0", "--lora-dropout 1", "--validation-fraction 2")  # fmt: skip
    train_refused(
        tmp_path, ["--score-rows", -1, "--distractor-columns", -2], "--score-rows -1", "--distractor-columns -2"
    )
    train_refused(tmp_path, ["--score-rows", 0, "--metric-for-best-model", "exec_accuracy"], "needs --score-rows")
    train_refused(tmp_path, ["--target-modules", "no_such_layer"], "--target-modules", "no_such_layer")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--seed", -1], ["--seed -1 must lie between 0 and 4294967295"]),
        (["--data-seed", 2**32], ["--data-seed 4294967296 must lie between"]),
        (["--max-steps", 0], ["--max-steps 0 must be at least 1, or -1"]),
        (["--per-device-train-batch-size", 0], ["--per-device-train-batch-size 0 must be at least 1"]),
        (["--per-device-eval-batch-size", 0], ["--per-device-eval-batch-size 0 must be at least 1"]),
        (["--gradient-accumulation-steps", 0], ["--gradient-accumulation-steps 0 must be at least 1"]),
        (["--eval-accumulation-steps", 0], ["--eval-accumulation-steps 0 must be at least 1"]),
        (["--dataloader-num-workers", -1], ["--dataloader-num-workers -1 must be at least 0"]),
        (["--num-train-epochs", 0], ["--num-train-epochs 0.0 must be more than 0"]),
        (["--learning-rate", "nan"], ["--learning-rate nan must be a finite number"]),
        (["--learning-rate", 0], ["--learning-rate 0.0 must be more than 0"]),
        (["--lora-dropout", "nan"], ["--lora-dropout nan must be a finite number"]),
        (["--max-grad-norm", -1], ["--max-grad-norm -1.0 must be at least 0"]),
        (["--warmup-steps", -1], ["--warmup-steps -1.0 must be at least 0"]),
        (["--adam-beta1", 2], ["--adam-beta1 2.0 must lie in [0, 1)"]),
        (["--logging-steps", 0], ["--logging-steps 0.0 must be a number of steps"]),
        (["--save-steps", 1.5], ["--save-steps 1.5 must be a number of steps"]),
        (["--save-total-limit", 0], ["--save-total-limit 0 must be at least 1"]),
        (["--optim", "nonsense"], ["--optim nonsense is none of adamw_torch"]),
        (["--lr-scheduler-type", "nonsense"], ["--lr-scheduler-type nonsense is none of linear"]),
        (["--lr-scheduler-kwargs", "nonsense"], ["--lr-scheduler-kwargs nonsense must be a JSON object"]),
        (["--accelerator-config", "absent.json"], ["--accelerator-config absent.json is neither"]),
        (["--accelerator-config", '{"absent": 1}'], ["the Trainer refuses its flags", "absent"]),
        (["--train-sampling-strategy", "nonsense"], ["--train-sampling-strategy nonsense is none of random"]),
        (["--metric-for-best-model", "nonsense"], ["--metric-for-best-model nonsense is none of loss, exec_accuracy"]),
        (["--dataloader-persistent-workers"], ["--dataloader-persistent-workers", "give --dataloader-num-workers"]),
        (["--fp16", "true", "--bf16", "true"], ["--fp16 and --bf16", "leave one out"]),
        (["--push-to-hub"], ["--push-to-hub", "log_model.py RUN"]),
        (["--hub-model-id", "a/b"], ["--hub-model-id", "log_model.py RUN"]),
        (["--resume-from-checkpoint", "x"], ["--resume-from-checkpoint", "--resume RUN"]),
        (["--label-names", "answer"], ["--label-names answer", "in the column answer"]),
        (["--greater-is-better", "true"], ["--greater-is-better True would choose the worst checkpoint by eval_loss"]),
        (["--torch-compile-mode", "nonsense"], ["--torch-compile-mode nonsense is none of default"]),
        (["--save-strategy", "no"], ["--save-strategy no", "there would be none"]),
        (["--prediction-loss-only"], ["--prediction-loss-only", "over all rows at once"]),
        (["--eval-delay", 100], ["--eval-delay", "each checkpoint is evaluated"]),
        (["--save-only-model"], ["--save-only-model", "optimiser"]),
        (["--do-train", "false"], ["--do-train false", "evaluate_model.py"]),
        (["--save-steps", 10, "--eval-steps", 3], ["--save-steps 10 and --eval-steps 3", "a multiple"]),
        (["--save-steps", 10, "--eval-steps", 0.5], ["--save-steps 10 and --eval-steps 0.5", "both in steps"]),
        (["--save-steps", 10, "--save-strategy", "epoch"], ["--save-steps 10 says nothing with --save-strategy epoch"]),
        (["--eval-strategy", "no"], ["--save-strategy steps and --eval-strategy no", "the same to both"]),
        (["--seed", -1, "--max-steps", 0, "--lora-r", 0, "--push-to-hub", "--save-steps", 3, "--eval-steps", 2],
         ["--seed -1", "--max-steps 0", "--lora-r 0", "--push-to-hub", "--save-steps 3 and --eval-steps 2"]),
    ],
    ids=lambda value: None if value and value[0] == "--seed" else " ".join(map(str, value[:2])),
)  # fmt: skip
def test_flags_of_the_trainer_that_cannot_work(tmp_path, arguments, parts):
    train_refused(tmp_path, arguments, *parts)


def test_flags_that_fail_only_with_the_data_or_the_libraries(tmp_path, few_rows):
    """They are tried before a run is made; no optimiser is left over."""
    train_refused(
        tmp_path,
        ["--dataset", few_rows, "--dataloader-drop-last", "--per-device-train-batch-size", 4000,
         "--per-device-eval-batch-size", 16, "--optim", "galore_adamw"],
        "96 training rows make no batch of 4000", "8 of 24 validation rows", "--per-device-eval-batch-size 12",
        "--optim galore_adamw cannot be had here",
    )  # fmt: skip
    train_refused(
        tmp_path, ["--dataset", few_rows, "--lr-scheduler-type", "cosine_with_min_lr"], "cosine_with_min_lr", "min_lr"
    )


def test_the_flags_of_labels_that_were_meant(tmp_path):
    for script, hint in ((train_classifier, "--labels"), (train_summarizer, "--summary-column")):
        done = call(script.main, "--label-names", "answer", "--seed", -1, "--lora-r", 0, "--output-dir", tmp_path / "o")
        refused(
            done, f"--label-names answer: the {'names' if '-l' in hint else 'column'}", hint, "--seed -1", "--lora-r 0"
        )
    done = call(train_classifier.main, "--early-stopping-threshold", "nan", "--output-dir", tmp_path / "o")
    refused(done, "--early-stopping-threshold nan")


STEPS = ("save_strategy", "eval_strategy", "save_steps", "eval_steps")


@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        ("sql", ["--save-steps", 10], ("steps", "steps", 10, 10)),
        ("sql", ["--eval-steps", 10], ("steps", "steps", 10, 10)),
        ("sql", ["--eval-steps", 0.1], ("steps", "steps", 0.2, 0.1)),
        ("sql", ["--save-steps", 20, "--eval-steps", 10], ("steps", "steps", 20, 10)),
        ("sql", ["--eval-strategy", "epoch"], ("epoch", "epoch", 0.2, 0.2)),
        ("sql", ["--save-strategy", "best"], ("best", "steps", 0.2, 0.2)),
        ("classifier", ["--save-steps", 10], ("steps", "steps", 10, 10)),
        ("classifier", ["--eval-steps", 10], ("steps", "steps", 10, 10)),
        ("classifier", ["--eval-strategy", "steps"], ("steps", "steps", 20, 20)),
        ("classifier", ["--save-steps", 10, "--eval-strategy", "steps"], ("steps", "steps", 10, 10)),
        ("classifier", ["--save-steps", 10, "--load-best-model-at-end", "false"], ("steps", "steps", 10, 10)),
        ("summarizer", ["--save-steps", 10, "--load-best-model-at-end", "false"], ("steps", "epoch", 10, None)),
        ("summarizer", ["--eval-steps", 7], ("steps", "steps", 7, 7)),
    ],
)
def test_checkpoints_and_evaluations_follow_each_other(script, arguments, expected):
    """Where one is given alone, it means the strategy `steps`, and a checkpoint is due at an evaluation only."""
    types = {
        "sql": (train_sql_generator.Flags, train_sql_generator.SqlTrainingArguments),
        "classifier": (train_classifier.Flags, train_classifier.ClassifierTrainingArguments),
        "summarizer": (train_summarizer.Flags, train_summarizer.SummarizerTrainingArguments),
    }
    _, args = ScriptParser(*types[script], description="").parse([str(argument) for argument in arguments])
    assert tuple(getattr(args, name) for name in STEPS) == expected
    assert args.refused == []


def ending_with_eos(folder, single="<s> $A </s>"):
    """Save a tiny base whose tokenizer puts EOS behind every text, and return its folder."""
    tokenizer = sentencepiece_tokenizer()
    special = [("<s>", 1), ("</s>", 2)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    return make_base(folder, tokenizer)


def with_foreign_pad(tokenizer):
    """Return a tokenizer with a pad token that the base it was made for lacks."""
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    return tokenizer


def test_a_tokenizer_with_eos_of_its_own_and_a_pad_token_beyond_the_vocabulary(tmp_path, few_rows, caplog):
    """No EOS between prompt and answer, in training or in what is logged; another token pads. It was an index error."""
    base = ending_with_eos(tmp_path / "base")
    with_foreign_pad(AutoTokenizer.from_pretrained(base)).save_pretrained(base)
    assert AutoTokenizer.from_pretrained(base)("a")["input_ids"][-1] == 2
    flags = ("--base-model", base, "--dataset", few_rows, "--max-steps", 1, "--max-length", 1024, "--score-rows", 4)
    flags += ("--max-validation-rows", 8, "--distractor-columns", 0, "--packing", "false", "--run-name", "mine")
    output = tmp_path / "outputs"
    flags += ("--per-device-train-batch-size", 4, "--output-dir", output, "--log-checkpoints", "none")
    with caplog.at_level("INFO"):
        assert call(train_sql_generator.main, *flags) is None
    assert "puts EOS (</s>) behind every text; that is turned off" in caplog.text
    assert "[PAD], has the id 900" in caplog.text
    (folder,) = output.iterdir()
    assert mlflow.get_run(folder.name).info.run_name == "mine"
    card = json.loads((folder / "checkpoint-1" / "finetune.json").read_text())
    assert all(2 not in row["prompt_ids"] for row in card["sample"])
    audit = mlflow.artifacts.load_dict(f"runs:/{folder.name}/supervision_audit.json")
    assert all("</s>[/masked]" not in example for example in audit["examples"])
    assert call(log_model.main, folder.name) is None
    served = mlflow.transformers.load_model(f"runs:/{folder.name}/model").tokenizer
    text = train_sql_generator.Prompt.load("text_to_sql").render(card["sample"][0])
    assert served(text)["input_ids"] == card["sample"][0]["prompt_ids"]
    assert served.pad_token == "</s>"


def test_a_tokenizer_that_does_not_fit_at_all(tmp_path, few_rows):
    base = make_base(tmp_path / "base", sentencepiece_tokenizer())
    config = json.loads((base / "config.json").read_text())
    rows = [*demo_rows("train")[:30], *demo_rows("validation")[:20]]
    rows[0] = rows[0] | {"answer": "SELECT '[NEW]' FROM t"}
    tokenizer = sentencepiece_tokenizer()
    tokenizer.add_tokens([AddedToken("[NEW]", normalized=False)])
    tokenizer.save_pretrained(base)
    data = jsonl(tmp_path / "rows.jsonl", rows)
    train_refused(
        tmp_path, ["--base-model", base, "--dataset", data, "--max-length", 1024, "--no-clean"],
        "the training rows hold the token [NEW] with the id 900", "the ids below 900",
    )  # fmt: skip
    (base / "config.json").write_text(json.dumps(config | {"vocab_size": 2}))
    train_refused(tmp_path, ["--base-model", base, "--dataset", data], "the id 2 for </s>", "belong together")


def test_a_base_folder_without_a_config(tmp_path):
    (tmp_path / "base").mkdir()
    train_refused(tmp_path, ["--base-model", tmp_path / "base"], "no config.json")
    train_refused(tmp_path, ["--base-model", tmp_path / "absent"], "there is no folder")


def test_a_base_of_the_wrong_kind(tmp_path):
    small = {"vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    BertForMaskedLM(BertConfig(**small, intermediate_size=8)).save_pretrained(tmp_path / "bert")
    T5ForConditionalGeneration(T5Config(vocab_size=50, d_model=8, d_kv=8, d_ff=8, num_layers=1)).save_pretrained(
        tmp_path / "t5"
    )
    train_refused(tmp_path, ["--base-model", tmp_path / "bert"], "BertForMaskedLM", "not a decoder")
    train_refused(tmp_path, ["--base-model", tmp_path / "t5"], "not a decoder")


def test_pickled_weights_are_not_loaded(tmp_path):
    base = tmp_path / "base"
    shutil.copytree(DEMO_BASE, base)
    torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    train_refused(tmp_path, ["--base-model", base], "model.safetensors")


def test_code_from_a_repository_is_not_run(tmp_path):
    base = make_base(tmp_path / "base", byte_level_tokenizer())
    config = json.loads((base / "config.json").read_text())
    config |= {"model_type": "custom", "auto_map": {"AutoConfig": "code.Config"}}
    (base / "config.json").write_text(json.dumps(config))
    (base / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    train_refused(tmp_path, ["--base-model", base], "cannot be loaded")
    assert not (tmp_path / "ran").exists()


def test_max_length_too_short_for_any_row(tmp_path):
    train_refused(tmp_path, ["--max-length", 10], "3000 rows: longer than 10 tokens", "--max-length")


def test_an_output_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    before = runs()
    done = call(train_sql_generator.main, *TRAIN, "--output-dir", tmp_path / "file" / "below")
    refused(done, "cannot be written", "--output-dir")
    assert runs() == before


def test_a_tracking_server_that_does_not_answer(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for main, arguments in ((train_sql_generator.main, TRAIN), (log_model.main, ["0123abc"])):
        refused(call(main, *arguments), "http://127.0.0.1:9", "does not answer")


def test_logging_an_unknown_run_or_one_without_checkpoints(trained_run):
    refused(call(log_model.main, "0123abc"), "there is no run 0123abc")
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 1.0)
    refused(call(log_model.main, run.info.run_id), "has no checkpoint")
    refused(call(log_model.main, trained_run["id"], "--checkpoint", 7), "no checkpoint 7", "best, last or one of")


def test_a_checkpoint_whose_tokenizer_was_changed_is_not_logged(trained_run, tmp_path):
    """The prompt's tokens would differ from those trained on: refused, and nothing is logged."""
    folder = tmp_path / "outputs"
    shutil.copytree(trained_run["folder"] / trained_run["id"], folder)
    byte_level_tokenizer().save_pretrained(folder / "checkpoint-24")
    with mlflow.start_run(tags={"finetune.checkpoints": str(folder)}) as run:
        pass
    rename_cards(folder, run.info.run_id)
    done = call(log_model.main, run.info.run_id, "--checkpoint", 24)
    refused(done, "not logged", "other tokens than training")
    assert not logged_models(run)


def test_prediction_from_an_unknown_model(trained_run):
    refused(call(predict.main, "runs:/0123abc/model", "--question", "q", "--context", "c"), "no model runs:/0123abc")
    uri = f"runs:/{trained_run['id']}/never"
    refused(call(predict.main, uri, "--question", "q", "--context", "c"), f"no model {uri}")


def test_prediction_from_bad_input(logged_model, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a question\n"))
    uri, output = logged_model["uri"], tmp_path / "out.jsonl"
    data = jsonl(tmp_path / "in.jsonl", [{"question": "q"}])
    refused(call(predict.main, uri, "--input", data, "--output", output), "no column context", "found question")
    data = jsonl(tmp_path / "in.jsonl", [{"question": "q", "context": "c"}, {"question": "q", "context": None}])
    refused(call(predict.main, uri, "--input", data, "--output", output), "row 2", "context")
    refused(call(predict.main, uri, "--input", tmp_path / "none.csv", "--output", output), "there is no file")
    refused(call(predict.main, uri, "--question", "q"), "--question needs --context")
    refused(call(predict.main, uri), "needs --context")
    refused(call(predict.main, uri, "--input", data, "--output", tmp_path / "out.xlsx"), "out.xlsx", ".parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_unknown_generation_parameters(logged_model):
    one = ("--question", "q", "--context", "c")
    done = call(predict.main, logged_model["uri"], *one, "--param", "tokens=3")
    refused(done, "no parameter tokens", "max_new_tokens")
    impossible = {
        "max_new_tokens": ("few", "0", "2.5", "true", "", "nan", "9" * 12), "num_beams": ("-1", "0", "1001"),
        "do_sample": ("1", "yes"),
        "temperature": ("0", "-1", "inf", "hot"), "top_p": ("1.5", "-0.1", "nan"), "repetition_penalty": ("0", "-2"),
    }  # fmt: skip
    words = {"max_new_tokens": "a whole number of at least 1", "num_beams": "a whole number of at least 1",
             "do_sample": "true or false", "top_p": "a number from 0 to 1"}  # fmt: skip
    for name, values in impossible.items():
        for value in values:
            done = call(predict.main, logged_model["uri"], *one, "--param", f"{name}={value}")
            refused(done, f"--param {name}={value}: {name} is ", f"expected {words.get(name, 'a number above 0')}")


def test_impossible_parameters_of_other_tasks(logged_classifier, logged_summarizer, monkeypatch):
    """All before the model is loaded."""
    monkeypatch.setattr(LoggedModel, "load", lambda *_: pytest.fail("the model was loaded"))
    for value in ("high", "2", "-0.1", "nan", "true", ""):
        done = call(predict.main, logged_classifier["uri"], "--text", "a", "--param", f"threshold={value}")
        refused(done, f"--param threshold={value}: threshold is ", "expected a number from 0 to 1")
    refused(call(predict.main, logged_classifier["uri"], "--text", "a", "--param", "batch_size=4"), "--batch-size 4")
    one = ("--text", "a", "--param")
    for given, words in (("no_repeat_ngram_size=-1", "a whole number, 0 for none"), ("num_beams=0", "at least 1"),
                         ("batch_size=0", "a whole number of at least 1")):  # fmt: skip
        refused(call(predict.main, logged_summarizer["uri"], *one, given), f"--param {given}", words)


def test_questions_and_schemas_that_are_empty(logged_model, tmp_path, monkeypatch):
    monkeypatch.setattr(LoggedModel, "load", lambda *_: pytest.fail("the model was loaded"))
    for question, context in (("", "c"), (" ", "c"), ("q", ""), ("q", "\n")):
        where = "question" if context == "c" else "context"
        one = call(predict.main, logged_model["uri"], "--question", question, "--context", context)
        refused(one, f"--question and --context: no text in {where}")
        rows = [{"question": "q", "context": "c"}, {"question": question, "context": context}]
        data = jsonl(tmp_path / "in.jsonl", rows)
        refused(call(predict.main, logged_model["uri"], "--input", data), f"row 2 of {data}: no text in {where}")
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(rows[1])))
        refused(call(predict.main, logged_model["uri"]), f"row 1 of stdin: no text in {where}")
    monkeypatch.setattr("sys.stdin", io.StringIO("a question"))
    refused(call(predict.main, logged_model["uri"], "--context", " "), "row 1 of stdin: no text in context")
    half = call(predict.main, logged_model["uri"], "--question", "\udcff", "--context", "c")  # bytes that are no text
    refused(half, "no text in question")


def test_prompts_that_are_longer_than_the_positions_of_the_base(logged_model, sqlite_database, tmp_path, monkeypatch):
    """With --database too, where the question makes it so long; before the model is loaded."""
    limit = load_config(str(DEMO_BASE), None).max_position_embeddings
    monkeypatch.setattr(LoggedModel, "load", lambda *_: pytest.fail("the model was loaded"))
    many = f"CREATE TABLE t ({', '.join(f'column_{number} INTEGER' for number in range(limit))})"
    long = ("--question and --context: its prompt takes ", f"the base model has {limit} positions")
    refused(call(predict.main, logged_model["uri"], "--question", "q", "--context", many), *long)
    data = jsonl(tmp_path / "in.jsonl", [{"question": "q", "context": "c"}] * 5 + [{"question": "q", "context": many}])
    output = tmp_path / "out.csv"
    refused(call(predict.main, logged_model["uri"], "--input", data, "--output", output), "row 6 of", long[1])
    assert not output.exists()
    monkeypatch.setattr("sys.stdin", io.StringIO("how many? " * limit))
    database = ("--database", sqlite_database, "--tables", "users")
    refused(call(predict.main, logged_model["uri"], *database), "row 1 of stdin: its prompt takes", long[1])


def test_a_base_that_no_longer_matches(logged_model, tmp_path):
    one = ("--question", "q", "--context", "c")
    retrained = tmp_path / "retrained"
    shutil.copytree(DEMO_BASE, retrained)
    weights = load_file(retrained / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * 2
    save_file(weights, retrained / "model.safetensors", metadata={"format": "pt"})
    done = call(predict.main, logged_model["uri"], *one, "--base-model", retrained)
    refused(done, "no longer matches the adapter", "--base-model")


def test_a_base_of_another_shape_does_not_take_a_checkpoint(trained_run, tmp_path):
    other = make_base(tmp_path / "other", byte_level_tokenizer())
    checkpoint = trained_run["folder"] / trained_run["id"] / "checkpoint-24"
    done = call(predict.main, checkpoint, "--question", "q", "--context", "c", "--base-model", other)
    refused(done, "no longer matches the adapter", "--base-model")
