"""The Hub's code paths, against a local server that speaks its protocol: a download, a gated and a missing id."""

import hashlib
import http.server
import json
import threading
from pathlib import Path

import train_sql_generator

import mlflow
import pytest
from conftest import call, last_line, make_base, run_script, sentencepiece_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves one model as acme/tiny; acme/gated answers as a gated repository does, others do not exist."""

    folder: Path

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def answer(self, body: bool) -> None:
        path = self.path.split("?")[0].removeprefix("/api/models")
        if path.startswith("/acme/gated"):
            return self.send(403, b"{}", body, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        if not path.startswith("/acme/tiny"):
            return self.send(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})
        files = {file.name: file for file in self.folder.iterdir()}
        name = path.rsplit("/", 1)[-1]
        if "/resolve/" in path and name in files:
            content = files[name].read_bytes()
            etag = hashlib.sha256(content).hexdigest()
            return self.send(200, content, body, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})
        if "/resolve/" in path:
            return self.send(404, b"{}", body, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        if "/tree/" in path:
            listing = [{"type": "file", "path": n, "size": f.stat().st_size, "oid": "0"} for n, f in files.items()]
            return self.send(200, json.dumps(listing).encode(), body, {})
        info = {"id": "acme/tiny", "sha": COMMIT, "siblings": [{"rfilename": n} for n in files], "tags": []}
        return self.send(200, json.dumps(info).encode(), body, {})

    def send(self, status: int, content: bytes, body: bool, headers: dict) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Start the server; return the environment that points the scripts at it, with an empty cache."""
    folder = tmp_path_factory.mktemp("hub")
    Hub.folder = make_base(folder / "tiny", sentencepiece_tokenizer())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_DISABLE_XET": "1",
    }
    server.shutdown()


def train(rows, tmp_path, base, **environment):
    return run_script(
        "train_sql_generator.py", "--base-model", base, "--dataset", rows, "--max-steps", 1, "--output-dir",
        tmp_path, "--max-validation-rows", 8, "--score-rows", 0, "--per-device-train-batch-size", 2,
        "--max-length", 1024, **environment,
    )  # fmt: skip


@pytest.mark.slow
def test_a_base_from_the_hub_is_trained_logged_and_loaded_by_its_commit(hub, few_rows, tmp_path):
    run_id = last_line(train(few_rows, tmp_path, "acme/tiny", **hub))
    assert mlflow.get_run(run_id).data.params["base.revision"] == COMMIT
    # MLflow would ask the Hub for the newest commit.
    uri = last_line(run_script("log_model.py", run_id, **(hub | {"HF_HUB_OFFLINE": "1"})))
    assert mlflow.get_run(run_id).data.tags["reload_parity"] == "pass"
    flavor = mlflow.models.Model.load(mlflow.artifacts.download_artifacts(uri)).flavors["transformers"]
    assert flavor["source_model_name"] == "acme/tiny"
    assert flavor["source_model_revision"] == COMMIT
    assert (flavor["tokenizer_name"], flavor["tokenizer_revision"]) == ("acme/tiny", COMMIT)
    # Once cached, the model predicts offline too.
    one = ("--question", "q", "--context", "c", "--param", "max_new_tokens=4", "--json")
    assert "sql" in json.loads(last_line(run_script("predict.py", uri, *one, **(hub | {"HF_HUB_OFFLINE": "1"}))))


@pytest.mark.parametrize(
    ("base", "parts"),
    [
        ("acme/gated", ("acme/gated is gated", "accept its terms", "HF_TOKEN")),
        ("acme/absent", ("acme/absent", "nor a model on the Hub", "--base-model demo/sql-base")),
    ],
)
def test_gated_and_missing_ids_say_what_to_do(hub, few_rows, tmp_path, base, parts):
    done = train(few_rows, tmp_path, base, **hub)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert all(part in done.stderr for part in parts), done.stderr


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached(hub, few_rows, tmp_path):
    done = train(few_rows, tmp_path, "acme/elsewhere", **(hub | {"HF_ENDPOINT": "http://127.0.0.1:9"}))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    # The tests themselves are offline.
    offline = call(train_sql_generator.main, "--base-model", "acme/elsewhere", "--output-dir", tmp_path)
    for part in ("acme/elsewhere", "HF_HUB_OFFLINE=1", "--base-model demo/sql-base needs neither the Hub nor a GPU"):
        assert part in done.stderr, done.stderr
        assert part in offline
