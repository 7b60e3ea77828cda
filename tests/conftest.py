"""What the tests share: an MLflow store of their own, tiny models made in process, and one trained run."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # No test reaches the Hub; test_hub.py has a server of its own.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # Tiny models gain nothing from a second core; a second test does.

import log_model
from finetune import InputError
from finetune.logged_models.entries import logged_models  # noqa: F401 (for the tests)
from finetune.training import callbacks

import database_servers
import mlflow
import pytest
import torch
from encoders import LABELS, make_encoder, write_parts
from summaries import make_t5, write_reports
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).parent.parent
DEMO_BASE, DEMO_DATA = ROOT / "demo" / "sql-base", ROOT / "demo" / "text_to_sql.jsonl"
# Seconds: tests wait for events, which come within half a minute here, on a machine ten times slower too.
LONGEST_WAIT = 900
CONTEXT = "CREATE TABLE head (age INTEGER, name TEXT)"
QUESTIONS = ["How many heads have an age of more than 56?", "What is the average age of all heads?"]
SPECIAL = ["<unk>", "<s>", "</s>"]


SHARED_RUNS = {
    "trained_run": "sql", "logged_model": "sql", "classifier_run": "terms", "logged_classifier": "terms",
    "summarizer_run": "reports", "logged_summarizer": "reports",
}  # fmt: skip

# Files that share the database servers.
DATABASES = (
    "test_databases",
    "test_schema_text",
    "test_choosing_tables",
    "test_sql_safety",
    "test_safe_sql",
    "test_database_roles",
    "test_sql_fuzzer",
    "test_query_server",
)
# Files whose slow tests share nothing: whichever process is free takes the next.
SPREAD = ("test_hub", "test_scripts", "test_adapters", "test_logged_models", "test_bad_input")


def pytest_make_parametrize_id(val, argname):
    """Name a long text or bytes by its argument: the name of a test stays readable and the same in each process."""
    return argname if isinstance(val, bytes) or (isinstance(val, str) and len(val) > 100) else None


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Skip the tests marked `gpu` where there is none; keep those that share a trained run in one process."""
    for item in items:
        groups = [SHARED_RUNS[name] for name in item.fixturenames if name in SHARED_RUNS]
        if groups or item.path.stem not in SPREAD:
            stem = "databases" if item.path.stem in DATABASES else item.path.stem
            item.add_marker(pytest.mark.xdist_group(groups[0] if groups else stem))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture(scope="session", autouse=True)
def tracking_store(tmp_path_factory):
    """Give the session an MLflow store of its own, for the scripts' processes too."""
    folder = tmp_path_factory.mktemp("mlflow")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    for experiment in ("sql-generator", "classifier", "summarizer"):
        mlflow.create_experiment(experiment, artifact_location=(folder / "artifacts").as_uri())
    return folder


@pytest.fixture(scope="session")
def sqlite_database(tmp_path_factory) -> str:
    """Path of an SQLite file with a planted secret."""
    return database_servers.sqlite_file(tmp_path_factory.mktemp("sqlite") / "app.db")


@pytest.fixture(scope="session")
def duckdb_database(tmp_path_factory) -> str:
    """Path of a DuckDB file with a planted secret."""
    return database_servers.duckdb_file(tmp_path_factory.mktemp("duckdb") / "app.duckdb")


@pytest.fixture(scope="session")
def postgresql_database():
    """URL of the superuser of a PostgreSQL server of the tests' own."""
    with database_servers.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def mysql_database():
    """URL of root of a MariaDB server of the tests' own."""
    with database_servers.mariadb() as url:
        yield url


def demo_rows(split: str) -> list[dict]:
    """Return the rows of one part of the demo data."""
    rows = [json.loads(line) for line in DEMO_DATA.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["split"] == split]


def run_script(name: str, *arguments, stdin: str | None = None, **environment) -> subprocess.CompletedProcess:
    """Run one of the scripts in a process of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / name), *map(str, arguments)],
        capture_output=True, text=True, input=stdin or "", timeout=LONGEST_WAIT, env=os.environ | environment,
    )  # fmt: skip


def call(main, *arguments) -> str | None:
    """Call a script's main() in this process: fast, for what it refuses. Return the InputError's sentence."""
    try:
        main([str(argument) for argument in arguments])
    except InputError as error:
        return str(error)
    return None


def stop_after(monkeypatch, step: int) -> None:
    """Make a --max-time of one hour end after so many steps."""

    class Stopping(callbacks.TimeLimitCallback):
        def on_step_end(self, args, state, control, **kwargs):
            self.seconds = -1 if state.global_step == step and self.seconds == 3600 else self.seconds
            super().on_step_end(args, state, control, **kwargs)

    monkeypatch.setattr(callbacks, "TimeLimitCallback", Stopping)


def kill_training(script: str, flags: tuple, output: Path, after: int, before: int) -> Path:
    """Start a training, kill it when a checkpoint is complete and another is not there yet; return its folder."""
    command = [sys.executable, ROOT / script, *flags, "--output-dir", output]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + LONGEST_WAIT
    while process.poll() is None and time.monotonic() < deadline:
        if list(output.glob(f"*/checkpoint-{after}/finetune.json")):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (folder,) = output.iterdir()
    assert not (folder / f"checkpoint-{before}").exists()
    return folder


def said_in_full(run_id: str, script: str = "train_") -> str:
    """Return what a script has said, in full, from the run's artifacts."""
    client = mlflow.MlflowClient()
    (found,) = [file.path for file in client.list_artifacts(run_id, "messages") if f"/{script}" in file.path]
    return mlflow.artifacts.load_text(f"runs:/{run_id}/{found}")


def last_line(done: subprocess.CompletedProcess) -> str:
    """Return the only line of a successful script's stdout."""
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = done.stdout.splitlines()
    return line


def _corpus() -> list[str]:
    return [f"{row['context']} {row['question']} {row['answer']}" for row in demo_rows("train")[:300]]


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """Return a GPT-2 style tokenizer: byte-level BPE, spaces belong to the words, no BOS is added."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(_corpus(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """Return a Llama style tokenizer: a dummy space in front, byte fallback, BOS added, no pad token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIAL + bytes_)
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )  # fmt: skip


TOKENIZERS = {"byte-level": byte_level_tokenizer, "sentencepiece": sentencepiece_tokenizer}


def make_base(folder: Path, tokenizer: PreTrainedTokenizerFast, hidden: int = 64, seed: int = 0) -> Path:
    """Save a tiny random Mistral with a tokenizer and return its folder."""
    torch.manual_seed(seed)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, sliding_window=None,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    MistralForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", params=sorted(TOKENIZERS))
def tiny_base(request, tmp_path_factory) -> Path:
    """A tiny base folder, once for each family of tokenizers."""
    return make_base(tmp_path_factory.mktemp("base") / request.param, TOKENIZERS[request.param]())


@pytest.fixture(scope="session")
def few_rows(tmp_path_factory) -> Path:
    """A file with a few rows of the demo data, for what does not have to learn: all rows take seconds to clean."""
    path = tmp_path_factory.mktemp("few") / "rows.jsonl"
    rows = demo_rows("train")[:96] + demo_rows("validation")[:24]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory) -> dict:
    """A short run of the training script on the demo base: its id, output folder and process."""
    folder = tmp_path_factory.mktemp("outputs")
    done = run_script(
        "train_sql_generator.py", "--base-model", DEMO_BASE, "--dataset", DEMO_DATA, "--output-dir", folder,
        "--max-steps", 24, "--learning-rate", 3e-3, "--max-validation-rows", 24, "--score-rows", 12,
        "--per-device-train-batch-size", 8,
    )  # fmt: skip
    return {"id": last_line(done), "folder": folder, "process": done}


@pytest.fixture(scope="session")
def logged_model(trained_run) -> dict:
    """The trained run's adapter, logged with the reload check: its URI, the process, and its answer to one question."""
    done = run_script("log_model.py", trained_run["id"])
    uri = last_line(done)
    answer = last_line(run_script("predict.py", uri, "--context", CONTEXT, "--question", QUESTIONS[0]))
    return {"uri": uri, "process": done, "run_id": trained_run["id"], "answer": answer}


@pytest.fixture(scope="session")
def terms(tmp_path_factory) -> Path:
    """A folder of labelled texts: train, validation, test."""
    return write_parts(tmp_path_factory.mktemp("terms"))


@pytest.fixture(scope="session")
def tiny_roberta(tmp_path_factory) -> Path:
    """A tiny RoBERTa, saved as the masked language model that roberta-base is."""
    return make_encoder(tmp_path_factory.mktemp("encoders") / "roberta", "roberta")


CLASSIFIER_FLAGS = ("--max-length", 64, "--num-train-epochs", 4, "--learning-rate", 1e-2, "--lora-dropout", 0,
                    "--disable-tqdm", "true", "--early-stopping-patience", 0, "--labels", *LABELS)  # fmt: skip


@pytest.fixture(scope="session")
def classifier_run(terms, tiny_roberta, tmp_path_factory) -> dict:
    """A short run of train_classifier.py: its id, output folder, process and flags."""
    folder = tmp_path_factory.mktemp("classifiers")
    flags = ("--base-model", tiny_roberta, "--dataset", terms, *CLASSIFIER_FLAGS)
    done = run_script("train_classifier.py", *flags, "--output-dir", folder)
    return {"id": last_line(done), "folder": folder, "process": done, "flags": flags}


@pytest.fixture(scope="session")
def logged_classifier(classifier_run) -> dict:
    """The run's classifier, logged with the reload check and as ONNX: both URIs."""
    with redirect_stdout(StringIO()) as printed:
        log_model.main([classifier_run["id"], "--export", "onnx"])
    onnx, uri = printed.getvalue().split()
    return {"uri": uri, "onnx": onnx, "run_id": classifier_run["id"]}


@pytest.fixture(scope="session")
def reports(tmp_path_factory) -> Path:
    """A file of articles and summaries with a column `split`."""
    return write_reports(tmp_path_factory.mktemp("reports") / "reports.jsonl")


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory) -> Path:
    """A tiny random T5 with a tokenizer."""
    return make_t5(tmp_path_factory.mktemp("t5") / "base")


SUMMARIZER_FLAGS = ("--num-train-epochs", 4, "--learning-rate", 1e-2, "--target-modules", "all-linear", "--lora-r", 16,
                    "--max-target-length", 40, "--disable-tqdm", "true")  # fmt: skip


@pytest.fixture(scope="session")
def summarizer_run(reports, tiny_t5, tmp_path_factory) -> dict:
    """A short run of train_summarizer.py, with W&B offline: its id, output folder, process and flags."""
    folder = tmp_path_factory.mktemp("summarizers")
    flags = ("--base-model", tiny_t5, "--dataset", reports, *SUMMARIZER_FLAGS)
    done = run_script("train_summarizer.py", *flags, "--output-dir", folder / "outputs", "--report-to", "mlflow",
                      "wandb", WANDB_MODE="offline", WANDB_DIR=str(folder))  # fmt: skip
    return {"id": last_line(done), "folder": folder, "process": done, "flags": flags}


@pytest.fixture(scope="session")
def logged_summarizer(summarizer_run) -> dict:
    """The run's summarizer, logged with the reload check as an adapter and merged: both URIs."""
    with redirect_stdout(StringIO()) as printed:
        log_model.main([summarizer_run["id"]])
        log_model.main([summarizer_run["id"], "--mode", "merged", "--name", "merged"])
    uri, merged = printed.getvalue().split()
    return {"uri": uri, "merged": merged, "run_id": summarizer_run["id"]}
