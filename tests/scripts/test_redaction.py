"""No secret is echoed: in whatever spelling it is given, and the rest stays readable."""

import json
import logging
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import Random
from string import ascii_letters, digits
from urllib.parse import quote

import predict
import train_classifier
import train_sql_generator
import train_summarizer
from finetune import InputError, console, resuming, screen
from finetune.redaction import is_secret_name, redact, redact_arguments, redact_values, shorten
from finetune.runs import lifecycle, tracking

import mlflow
import pytest
from conftest import DEMO_BASE, ROOT, call, run_script

SECRET = "hunter2"
# What was given, and what is shown of it.
SPELLINGS = [
    ("postgresql://u:hunter2@host/db", "postgresql://u:***@host/db"),
    ("postgresql+psycopg://u:hunter2@host:5432/db", "postgresql+psycopg://u:***@host:5432/db"),
    ("mysql+pymysql://u:hunter2@127.0.0.1:1/x", "mysql+pymysql://u:***@127.0.0.1:1/x"),
    ("postgresql://u:hunter2@[::1]:5432/db", "postgresql://u:***@[::1]:5432/db"),
    ("postgresql://:hunter2@host/db", "postgresql://:***@host/db"),
    ("postgresql://u:p@hunter2@host/db", "postgresql://u:***@host/db"),
    ("postgresql://u:hunter2@@host/db", "postgresql://u:***@host/db"),
    ("postgresql://u:hunter2/x@host/db", "postgresql://u:***@host/db"),
    ("postgresql://u:x/hunter2@host/db", "postgresql://u:***@host/db"),
    ("postgresql://u:x?hunter2@host/db", "postgresql://u:***@host/db"),
    ("postgresql://u:x#hunter2@host/db", "postgresql://u:***@host/db"),
    ("postgresql://u:x:hunter2@host/db", "postgresql://u:***@host/db"),
    ("postgresql://u:x hunter2@host/db", "postgresql://u:***@host/db"),
    ("postgresql://u:x'hunter2@host/db", "postgresql://u:***@host/db"),
    ('postgresql://u:x"hunter2@host/db', "postgresql://u:***@host/db"),
    ("postgresql:/u:hunter2@host/db", "postgresql:/u:***@host/db"),
    ("postgresql:u:hunter2@host/db", "postgresql:***@host/db"),
    ("//u:hunter2@host/db", "//u:***@host/db"),
    ("u:hunter2@host/db", "u:***@host/db"),
    ("u:p@hunter2@host/db", "u:***@host/db"),
    ("HTTP://u:hunter2@host/x", "HTTP://u:***@host/x"),
    ("  http://u:hunter2@host/x", "  http://u:***@host/x"),
    ("PostgreSQL://u:hunter2@host", "PostgreSQL://u:***@host"),
    ("https://hunter2@host/x.jsonl", "https://***@host/x.jsonl"),
    ("git+https://hunter2@host/x", "git+https://***@host/x"),
    ("https://u:hunter2@host/rows.jsonl", "https://u:***@host/rows.jsonl"),
    ("https://u:hunter2@host/a?b=c@d", "https://u:***@host/a?b=c@d"),
    ("https://u:%68unter2@host/x", "https://u:***@host/x"),
    ("https://u:hunter%32@host/x", "https://u:***@host/x"),
    ("https://u:a%40hunter2@host/x", "https://u:***@host/x"),
    ("https%3A%2F%2Fu%3Ahunter2%40host", "https://u:***@host"),
    ("https%253A%252F%252Fu%253Ahunter2%2540host", "https://u:***@host"),
    ("http://host/?next=https%3A%2F%2Fu%3Ahunter2%40host", "http://host/?next=https://u:***@host"),
    ("jdbc:postgresql://host/db?user=u&password=hunter2", "jdbc:postgresql://host/db?user=u&password=***"),
    ("postgresql://host/db?password=hunter2", "postgresql://host/db?password=***"),
    ("postgresql://host/db?sslpassword=hunter2&sslmode=require",
     "postgresql://host/db?sslpassword=***&sslmode=require"),
    ("mysql://host/db?passwd=hunter2", "mysql://host/db?passwd=***"),
    ("mysql://host/db?user=u&PASSWD=hunter2", "mysql://host/db?user=u&PASSWD=***"),
    ("mysql://host/db?Pwd=hunter2", "mysql://host/db?Pwd=***"),
    ("mysql://host/db?pass=hunter2", "mysql://host/db?pass=***"),
    ("mysql://host/db?pass%77ord=hunter2", "mysql://host/db?pass%77ord=***"),
    ("mysql://host/db?charset=utf8;password=hunter2", "mysql://host/db?charset=utf8;password=***"),
    ("http://host:5000?token=hunter2", "http://host:5000?token=***"),
    ("http://host/x?access_token=hunter2#a", "http://host/x?access_token=***"),
    ("http://host/x?ACCESS-TOKEN=hunter2", "http://host/x?ACCESS-TOKEN=***"),
    ("http://host/x?api_key=hunter2&v=1", "http://host/x?api_key=***&v=1"),
    ("http://host/x?apikey=hunter2", "http://host/x?apikey=***"),
    ("http://host/x?v=1&key=hunter2", "http://host/x?v=1&key=***"),
    ("http://host/x?client_secret=hunter2", "http://host/x?client_secret=***"),
    ("http://host/x?sv=2024&sig=hunter2", "http://host/x?sv=2024&sig=***"),
    ("http://host/x?X-Amz-Signature=hunter2", "http://host/x?X-Amz-Signature=***"),
    ("http://host/x?X-Amz-Security-Token=hunter2", "http://host/x?X-Amz-Security-Token=***"),
    ("http://host/x#access_token=hunter2", "http://host/x#access_token=***"),
    ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dhunter2", "mssql+pyodbc:///?odbc_connect=DRIVER=x;PWD=***"),
    ("Driver=x;Server=h;UID=u;PWD=hunter2;", "Driver=x;Server=h;UID=u;PWD=***;"),
    ("Driver=x;PWD={hunter;2 hunter2};UID=u", "Driver=x;PWD=***;UID=u"),
    ("host=h user=u password=hunter2 dbname=x", "host=h user=u password=*** dbname=x"),
    ("host=h password='a hunter2' dbname=x", "host=h password=*** dbname=x"),
    ("host=h PASSWORD=hunter2", "host=h PASSWORD=***"),
    ("--hf-token=hunter2", "--hf-token=***"),
    ("--hub_token=hunter2", "--hub_token=***"),
    ("--api-key=hunter2 --seed=1", "--api-key=*** --seed=1"),
    ("--password='hunter2'", "--password=***"),
    ("--dataset=https://u:hunter2@host/x", "--dataset=https://u:***@host/x"),
    ("HF_TOKEN=hunter2 python train.py", "HF_TOKEN=*** python train.py"),
    ("MLFLOW_TRACKING_PASSWORD=hunter2", "MLFLOW_TRACKING_PASSWORD=***"),
    ("AWS_SECRET_ACCESS_KEY=hunter2", "AWS_SECRET_ACCESS_KEY=***"),
    ("{'host': 'h', 'password': 'hunter2'}", "{'host': 'h', 'password': '***'}"),
    ('{"access_token": "hunter2"}', '{"access_token": "***"}'),
    ("Authorization: Bearer hunter2", "Authorization: ***"),
    ("{'Authorization': 'Basic hunter2'}", "{'Authorization': '***'}"),
    ("mysql://host/db?password=a;hunter2", "mysql://host/db?password=***"),
    ("mysql://host/db?password=a&hunter2&b=c", "mysql://host/db?password=***&b=c"),
    ("mysql://host/db?password=a@hunter2", "mysql://host/db?password=***"),
    ("s3://AKIA:hunter2@bucket/rows.jsonl", "s3://AKIA:***@bucket/rows.jsonl"),
    # What could be a port, or a path, may be a password.
    ("mysql://u:80/hunter2@host/db", "mysql://u:***@host/db"),
    ("mysql://u:8080?hunter2@host/db", "mysql://u:***@host/db"),
    ("https://u:05?hunter2@host/x", "https://u:***@host/x"),
    ("https://u:4#hunter2@host/x", "https://u:***@host/x"),
    ("https://u:k%@&)Y&g1=hunter2@@host/x", "https://u:***@host/x"),
    ("postgresql://u:iU@}i/?b=hunter2@host/db", "postgresql://u:***@host/db"),
    ("u:@x?hunter2@host/x", "u:***@host/x"),
    ("postgresql://u:hunter2", "postgresql://u:***"),
    ("postgresql://u:5hunter2/db", "postgresql://u:***/db"),
    ("user@corp.example:hunter2@host", "user@corp.example:***@host"),
    ("http://host/?user[password]=hunter2", "http://host/?user[password]=***"),
    ("http://host/?sessionid=hunter2", "http://host/?sessionid=***"),
    ("http://host/?otp=hunter2", "http://host/?otp=***"),
    ("--token=hunter2", "--token=***"),
    ("--param=password=hunter2", "--param=password=***"),
    ("--config=url=http://host/?token=hunter2", "--config=url=http://host/?token=***"),
    ("X-Api-Key: hunter2", "X-Api-Key: ***"),
    ("Proxy-Authorization: Basic hunter2", "Proxy-Authorization: ***"),
    ("Cookie: session=hunter2", "Cookie: ***"),
]  # fmt: skip
PLAIN = [
    "runs:/0123456789abcdef/model", "models:/NAME@champion", "models:/NAME/3", "owner/name:configuration",
    "sqlite:////home/me/mlflow.db", "http://127.0.0.1:5000", "postgresql://mlflow@localhost/mlflow",
    "http://host:8080/data@v2/rows.jsonl", "hf://datasets/owner/name@main/rows.jsonl", "C:/data/a@b.jsonl",
    "file:///srv/a:b/c.jsonl", "--max-tokens-per-batch=64 --token-ids", "pad_token='</s>' eos_token=</s>",
    "max_new_tokens=64", "SELECT name FROM users WHERE key = 'x' AND age>5", "loss=0.5 lr=1e-3 mail a@b.example",
    "--tokenizer=x --keyword=y", "what is the pass=3 of key=5?", "the token is at 12:30 @ noon",
    "expected one such as http://HOST:PORT.", "http://127.0.0.1:5000: refused", "(see http://host:5000)",
    "http://127.0.0.1:5000/#/models/a/versions/1@prod", "spark://host:7077", "http://[::1]:5000/x", "a=b=c", "http://h:<port>",
]  # fmt: skip


@pytest.mark.parametrize(("given", "shown"), SPELLINGS)
def test_the_secret_goes_and_the_rest_stays(given, shown):
    assert redact(given) == shown
    # In the middle of a sentence, as an error, in a list, under a name.
    for text in (redact(f"there is no {given} here"), str(InputError(f"--dataset {given}: no such file")),
                 str(redact_values({"script": {"dataset": given, "rows": [1, given]}}))):  # fmt: skip
        assert SECRET not in text
        assert "***" in text


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text):
    assert redact(text) == text
    assert redact_values({"value": text}) == {"value": text}


def test_errors_that_repeat_a_secret_in_other_words():
    for reference, error in (
        ("postgresql://u:p@hunter2@host/db", 'could not translate host name "hunter2@host" to address'),
        ("postgresql://u:hunter%32@host/db", "password hunter2 was refused"),
        ("postgresql://u:hunter2@host/db", "hunter2"),
        ("mysql://host/db?passwd=%68unter2", "(1045, access with hunter2)"),
        ("postgresql://u:x hunter2@host/db", "invalid port x hunter2"),
    ):
        assert SECRET not in redact(error, reference)
    # A short one would be found in any word.
    assert redact("a cat at the host", "postgresql://u:at@host/db") == "a cat at the host"


def test_arguments_that_follow_their_flag():
    given = ["--hub-token", "hunter2", "--hf_token", "hunter2", "--api-key", "hunter2", "--password", "a hunter2",
             "--seed", "7", "--token-ids", "--max-tokens-per-batch", "64", "--token", "--resume", "x"]  # fmt: skip
    shown = redact_arguments(given)
    assert shown[1::2][:4] == ["***"] * 4
    assert shown[8:] == given[8:]
    assert redact_values({"arguments": given})["arguments"] == shown
    assert redact_arguments(["-token", "hunter2", "-p", "x"]) == ["-token", "***", "-p", "***"]
    hidden = {"api_key": ["hunter2"], "a": {"password": {"b": "hunter2", "c": True}}, "Password": 0.5}
    assert redact_values(hidden) == {"api_key": ["***"], "a": {"password": {"b": "***", "c": True}}, "Password": 0.5}
    assert redact_values({"hub_token": "hunter2", "seed": 7, "tokens": 5, "token": None}) == {
        "hub_token": "***", "seed": 7, "tokens": 5, "token": None,
    }  # fmt: skip


def test_no_flag_of_the_scripts_is_taken_for_a_secret():
    for script in (train_classifier, train_sql_generator, train_summarizer):
        names = {
            name
            for kind in vars(script).values()
            if getattr(kind, "__module__", "") == script.__name__
            for name in getattr(kind, "__dataclass_fields__", ())
        }
        assert {"seed", "experiment", "max_steps"} <= names
        assert {name for name in names if is_secret_name(name)} <= {"hub_token"}


def test_what_cannot_be_read_is_cut():
    assert SECRET not in shorten("postgresql;//u hunter2@host/db")
    assert SECRET not in shorten("postgresql://host/db?password=a hunter2")
    assert SECRET not in shorten("host=h password=hunter2")
    assert shorten("/home/me/shop.db") == "/home/me/shop.db"
    assert shorten("postgresql://u:hunter2@host/db") == "postgresql://u:***@host/db"


@pytest.mark.parametrize(
    "reference",
    [
        "postgresql://u:hunter2@127.0.0.1:1/x",
        "postgresql://u:p@hunter2@127.0.0.1:1/x",
        "postgresql://u:%68unter2@127.0.0.1:1/x",
        "postgresql://u:hunter2@127.0.0.1:port/x",
        "postgresql:/u:hunter2@host/x",
        "POSTGRESQL://u:hunter2@host/x",
        " postgresql://u:hunter2@host/x",
        "postgresql://127.0.0.1:1/x?password=hunter2",
        "postgresql://127.0.0.1:1/x?sslpassword=hunter2&sslmode=disable",
        "mysql://u:hunter2@127.0.0.1:1/x",
        "mysql+pymysql://127.0.0.1:1/x?passwd=hunter2",
        "mysql+pymysql://127.0.0.1:1/x?password=a hunter2",
        "oracle://u:hunter2@host/x",
        "duckdb:///absent.duckdb?password=hunter2",
        "sqlite:///absent.db?key=hunter2",
        "u:hunter2@host/x",
        "host=h password=hunter2",
        "Driver=x;PWD=hunter2",
        "postgresql;//u hunter2@host",
    ],
)
def test_a_database_is_refused_without_its_secret(reference, capfd):
    sentence = call(predict.main, "runs:/0/model", "--database", reference, "--question", "q")
    assert sentence.startswith("--database")
    printed = capfd.readouterr()
    assert SECRET not in sentence + printed.out + printed.err
    assert len(sentence) > 40


@pytest.mark.parametrize(
    "reference",
    ["https://u:hunter2@host/rows.jsonl", "https://hunter2@host/rows", "HTTPS://host/rows.csv?token=hunter2",
     "u:hunter2@host", "s3://a:hunter2@bucket/rows.parquet", "https:u:hunter2@host"],
)  # fmt: skip
def test_data_and_base_are_refused_without_their_secret(reference, tiny_roberta, tiny_t5, capfd):
    bases = {train_sql_generator: DEMO_BASE, train_classifier: tiny_roberta, train_summarizer: tiny_t5}
    for script, base in bases.items():
        for flags in (("--dataset", reference, "--base-model", base), ("--base-model", reference, "--dataset", "x")):
            sentence = call(script.main, *flags, "--max-length", 64)
            printed = capfd.readouterr()
            assert "***" in sentence
            assert SECRET not in sentence + printed.out + printed.err


def test_flags_that_nobody_knows_are_named_without_their_values():
    for flags in (
        ("--hf-token", "hunter2"),
        ("--hf-token=hunter2",),
        ("--api_key", "a hunter2"),
        ("--password=hunter2",),
    ):
        for main in (predict.main, train_classifier.main, train_sql_generator.main, train_summarizer.main):
            sentence = call(main, *("runs:/0/model", *flags)[main is not predict.main :])
            assert flags[0].partition("=")[0] in sentence
            assert SECRET not in sentence


def test_lines_and_tracebacks_are_without_secrets(capsys):
    record = logging.makeLogRecord({"msg": "at %s", "args": ("postgresql://u:hunter2@host/x",)})
    assert screen.Formatter(full=True).format(record) == "at postgresql://u:***@host/x"
    try:
        raise RuntimeError("no answer of mysql://host/x?passwd=hunter2")
    except RuntimeError:
        console._show_traceback(*sys.exc_info())
    printed = capsys.readouterr().err
    assert "RuntimeError: no answer of mysql://host/x?passwd=***" in printed
    assert SECRET not in printed


def test_what_libraries_log_or_warn_of_is_without_secrets(capsys):
    code = (
        "import logging, threading, warnings, mlflow; from finetune import console\n"
        "def main():\n"
        "    logging.getLogger('mlflow.x').warning('at %s', 'postgresql://u:hunter2@host/x')\n"
        "    logging.getLogger('alembic.x').error('at mysql://host/x?passwd=hunter2')\n"
        "    logging.getLogger('transformers').error('at https://host/?token=hunter2')\n"
        "    warnings.warn('at http://u:hunter2@host')\n"
        "    thread = threading.Thread(target=int, args=('http://u:hunter2@host',))\n"
        "    thread.start(), thread.join()\n"
        "console.run(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0
    assert done.stderr.count("***") == 5, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert "mlflow: at postgresql://u:***@host/x" in done.stderr


def test_what_is_tracked_is_without_secrets(tmp_path):
    url, arguments = "https://u:hunter2@host/rows", ["--dataset", "https://u:hunter2@host/rows", "--hub-token", SECRET]
    rows = [{"text": "x"}]
    with suppress(RuntimeError), lifecycle.run("secrets", tmp_path, tags={"from": url}) as run_id:
        args = type("Arguments", (), {"output_dir": str(tmp_path)})
        resuming._announce(args, resuming.Origin(arguments, {"dataset": url}))
        tracking.log_params({"dataset": url, "hub_token": SECRET})
        tracking.log_parameters({"script": {"dataset": url, "columns": [url]}}, training={"hub_token": SECRET})
        tracking.set_tag("source", url)
        tracking.log_dataset(run_id, rows, ("text",), url, "rows", "training", from_hub=True)
        raise RuntimeError(f"not found: {url}")
    run = mlflow.get_run(run_id)
    assert run.data.params["dataset"] == "https://u:***@host/rows"
    assert run.data.tags["from"] == run.data.tags["source"] == "https://u:***@host/rows"
    assert "hunter2" not in json.dumps([run.to_dictionary(), str(run.inputs)])
    for name in ("arguments.json", "parameters.json", "error.txt"):
        written = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name)).read_text()
        assert "https://u:***@host/rows" in written
        assert SECRET not in written
    begun = tracking.load_artifact_json(run_id, "arguments.json")
    assert begun["arguments"] == ["--dataset", "https://u:***@host/rows", "--hub-token", "***"]


def test_a_script_of_its_own_says_it_too():
    done = run_script(
        "predict.py", "runs:/0/model", "--database", "postgresql://u:p@hunter2@host/x", "--question", "q",
        MLFLOW_TRACKING_URI="postgresql+psycopg://u:hunter2@127.0.0.1:1/x",
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: the database of MLFLOW_TRACKING_URI postgresql+psycopg://u:***@127.0.0.1:1/x")
    assert done.stderr.count("\n") == 1
    assert SECRET not in done.stdout + done.stderr


def test_passwords_drawn_at_random_are_found():
    random, marks = Random(0), "!#$%&'()*+,-./:;<=>?@[]^_`{|}~\"\\"
    known = ("postgresql://u:{}@host/db", "mysql+pymysql://root:{}@127.0.0.1:3306/x", "u:{}@host/x",
             "cannot connect to mysql://u:{}@host:1/x: refused")  # fmt: skip
    for _ in range(4000):
        # What begins with a slash is a path, with drive or user before it.
        password = random.choice(ascii_letters) + "".join(random.choices(ascii_letters + digits + marks, k=8))
        given, quoted = random.choice(known).replace("{}", password), quote(password, safe="")
        assert password not in redact(given), given
        for form in (
            "mysql://host/x?password={}",
            "http://host/x?a=1&token={}&b=2",
            "--hf-token={}",
            "HF_TOKEN={} python",
        ):
            assert quoted not in redact(form.replace("{}", quoted)), (form, quoted)
