"""The page of try_model.py in a real browser, with real models; and what comes from elsewhere does nothing."""

import json
import sqlite3
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import try_model
from finetune.databases.database import open_database
from finetune.logged_models.opening import LoggedModel
from finetune.page.choosing import scores
from finetune.page.desk import Stopped
from finetune.page.server import make_app, make_server, open_socket
from finetune.page.tried import Tried
from finetune.page.views.questions import Questions
from finetune.predicting.traces import Record
from finetune.rows.corrections import corrected_rows

import mlflow
import pytest
from browser import chromium
from conftest import byte_level_tokenizer, call, make_base
from made_runs import make_checkpoint
from starlette.testclient import TestClient

HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
READY = "document.body?.dataset.state === 'ready' && document.querySelector('#fields').children.length"
ANSWERED = "!document.body.dataset.asking && !document.getElementById('judge').hidden"
KEPT = "document.querySelector('.said')?.textContent.includes('is kept in MLflow')"


@contextmanager
def served(*arguments, model=None):
    """Serve the page in a thread; yield its address and what it is about.

    Args:
        model: in the place of the one that would be loaded.
    """
    tried = try_model.open_tried(try_model.parse([str(argument) for argument in arguments]))
    if model is not None:
        tried.view.model = model
    listening = open_socket(0)
    port = listening.getsockname()[1]
    server = make_server(make_app(tried, port))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/", tried
    finally:
        server.should_exit = True
        thread.join()
        try_model.close(tried)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def hostile_database(tmp_path_factory) -> str:
    """A database whose names and values are markup."""
    path = tmp_path_factory.mktemp("hostile") / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE head (age INTEGER, name TEXT)")
        connection.execute("INSERT INTO head VALUES (57, ?)", [HOSTILE])
        connection.execute('CREATE TABLE "<b id=taken>" (a INTEGER)')
    connection.close()
    return str(path)


def tab_to(browser, name: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(60):
        if browser.run("document.activeElement.id") == name:
            return
        browser.press("Tab")
    raise AssertionError(f"Tab never reaches {name}")


def answer_of(text: str):
    """Return a model that writes one text, whatever it is asked."""
    return SimpleNamespace(
        encode=lambda rows: rows, answer=lambda encoded, **_: [{"sql": text, "ended": True, "token_ids": []}],
        model=SimpleNamespace(disable_adapter=nullcontext), tokenizer=None,
    )  # fmt: skip


def test_a_question_by_keyboard_alone_corrected_and_found_as_a_row(logged_model, browser, hostile_database):
    arguments = logged_model["uri"], "--database", hostile_database, "--execute", "--param", "max_new_tokens=24"
    with served(*arguments) as (address, tried):
        browser.open(address, 360, "dark")
        browser.wait(READY)
        tab_to(browser, "question")
        browser.press("How many heads are there now?", "Enter")
        browser.wait(ANSWERED)
        assert browser.run("[...document.querySelectorAll('.side')].map((one) => one.id)") == [
            "side-adapter", "side-base",
        ]  # fmt: skip
        tab_to(browser, "correct")
        browser.press("Enter")
        (record,) = tried.kept.values()
        assert browser.run("document.activeElement.value") == record.outputs["sql"]  # Not as it is laid out.
        browser.run("document.activeElement.select()")
        browser.press("SELECT name FROM head")
        tab_to(browser, "try")
        browser.press("Enter")
        browser.wait("document.querySelector('#side-yours td')")
        assert browser.run("document.querySelector('#side-yours td').textContent") == HOSTILE
        tab_to(browser, "save")
        browser.press("Enter")
        browser.wait(KEPT)
        assert browser.run("document.documentElement.scrollWidth") <= 360
        assert browser.run("document.title") == "Try a model"
        assert browser.run("document.querySelector('#taken, #main img')") is None
        model_id = tried.logged.model_id
    rows = [row for row in corrected_rows("mlflow:sql-generator", ("question", "context", "answer"))
            if row["question"] == "How many heads are there now?"]  # fmt: skip
    assert [row["answer"] for row in rows] == ["SELECT name FROM head"]
    assert "CREATE TABLE head (age INTEGER, name TEXT)" in rows[0]["context"]
    trace = mlflow.search_traces(
        locations=[mlflow.get_experiment_by_name("sql-generator").experiment_id], model_id=model_id, return_type="list"
    )[0]
    names = [span.name for span in trace.data.spans]
    assert names == ["answer", "write", "check and run"]
    assert "How many heads" in trace.data.spans[1].inputs["prompt"]
    assert trace.data.spans[2].outputs["verdict"] in ("passed", "refused")
    assert "rows" not in trace.data.spans[2].outputs
    assert {one.name: one.value for one in trace.info.assessments} == {
        "right": False,
        "answer": "SELECT name FROM head",
    }


def test_a_hostile_answer_schema_and_value_are_text(logged_model, browser, hostile_database):
    arguments = logged_model["uri"], "--database", hostile_database, "--execute", "--no-trace"
    sql = f'SELECT name AS "{HOSTILE.replace(chr(34), chr(39))}" FROM head'
    with served(*arguments, model=answer_of(sql)) as (address, _):
        browser.open(address)
        browser.wait(READY)
        browser.run("document.getElementById('question').value = 'q'")
        browser.run("document.getElementById('send').click()")
        browser.wait(ANSWERED)
        assert HOSTILE in browser.run("document.querySelector('#side-adapter td').textContent")
        assert "onerror" in browser.run("document.querySelector('#side-adapter th').textContent")
        assert "<b id=taken>" in browser.run("document.getElementById('tree').textContent")
        assert browser.run("document.querySelector('#taken, #main img, #main script')") is None
        assert browser.run("document.title") == "Try a model"
        assert "--no-trace" in browser.run("document.getElementById('judge').textContent")


def test_a_document_is_marked_in_place_and_a_sentence_corrected(logged_classifier, browser):
    document = f"You agree to all. Courts of {HOSTILE} decide.\n\nThe end is near."
    with served(logged_classifier["uri"]) as (address, tried):
        browser.open(address, 1200, "dark")
        browser.wait(READY)
        browser.run(f"document.getElementById('text').value = {json.dumps(document)}")
        browser.run("document.getElementById('document').click()")
        browser.run("document.getElementById('send').click()")
        browser.wait("!document.body.dataset.asking && document.querySelector('.sentence')")
        assert browser.run("document.querySelector('#main img, #main script')") is None
        browser.run("document.querySelectorAll('.sentence')[0].focus()")
        browser.press(" ")
        tab_to(browser, "correct")
        browser.press("Enter")
        browser.run("document.querySelectorAll('#judge input').forEach((one) => { one.checked = false; })")
        browser.run("document.querySelector('#judge input').click()")
        browser.run("document.getElementById('save').click()")
        browser.wait(KEPT)
        assert browser.run("document.title") == "Try a model"
        label = tried.view.labels.names[0]
    rows = corrected_rows("mlflow:classifier", ("text",))
    assert {"text": "You agree to all.", "labels": [label]} in rows


def test_an_article_is_summarised_by_both_and_corrected(logged_summarizer, browser, reports):
    article = json.loads(reports.read_text().splitlines()[0])["article"]
    with served(logged_summarizer["uri"], "--param", "max_new_tokens=8") as (address, _):
        browser.open(address, 360)
        browser.wait(READY)
        browser.run(f"document.getElementById('article').value = {json.dumps(article)}")
        browser.run("document.getElementById('send').click()")
        browser.wait(ANSWERED)
        assert browser.run("document.querySelectorAll('.side').length") == 2
        browser.run("document.getElementById('correct').click()")
        browser.run("document.getElementById('corrected').value = 'All is well.'")
        browser.run("document.getElementById('save').click()")
        browser.wait(KEPT)
    assert {"article": article, "summary": "All is well."} in corrected_rows(
        "mlflow:summarizer", ("article", "summary")
    )


def test_the_tabs_show_the_scorecard_and_the_figures_and_a_row_is_opened(logged_model, browser):
    with served(logged_model["uri"], model=answer_of("SELECT 1")) as (address, _):
        browser.open(address)
        browser.wait(READY)
        browser.run("document.getElementById('tab-ask').focus()")
        browser.press("ArrowRight")
        browser.wait("document.querySelectorAll('#view-scorecard .row').length == 12")
        browser.run("document.getElementById('shape').value = 'WHERE'")
        browser.run("document.getElementById('shape').dispatchEvent(new Event('change'))")
        browser.wait("document.querySelectorAll('#view-scorecard .row').length < 12")
        browser.press("ArrowRight")
        browser.wait("[...document.querySelectorAll('#view-figures img')].some((one) => one.naturalWidth > 0)")
        browser.press("ArrowLeft")
        browser.wait("document.querySelector('#view-scorecard .row')")
        browser.run("document.querySelector('#view-scorecard .row').click()")
        assert browser.run("document.getElementById('question').value")
        assert "CREATE TABLE" in browser.run("document.getElementById('schema').value")


def test_without_a_model_those_of_the_store_are_listed_and_one_is_chosen(logged_model, browser):
    with served() as (address, tried):
        browser.open(address)
        browser.wait("document.querySelector('#view-choose button')")
        found = browser.run("[...document.querySelectorAll('#view-choose button')].map((one) => one.dataset.uri)")
        assert all(uri.startswith("models:/m-") for uri in found)
        wanted = next(one["uri"] for one in tried.choices() if one["task"] == "text-to-sql")
        browser.run(f"document.querySelector('[data-uri=\"{wanted}\"]').click()")
        browser.wait(READY)
        assert tried.uri == wanted


@pytest.fixture
def nobody() -> TestClient:
    """A client of the page without a model."""
    app = make_app(try_model.open_tried(try_model.parse([])), 80)
    return TestClient(app, base_url="http://127.0.0.1:80", headers={"host": "127.0.0.1:80"})


OWN = {"origin": "http://127.0.0.1:80", "content-type": "application/json"}


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"}, {"host": "evil.example:80"}, {"host": "127.0.0.1:81"}, {"host": "127.0.0.1.evil:80"},
        {"host": ""}, {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": ""},
        {"origin": "http://127.0.0.1:81"}, {"origin": "https://127.0.0.1:80"}, {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"}, {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
    ],
)  # fmt: skip
def test_a_foreign_host_origin_or_form_is_refused(nobody, headers):
    for path in ("/api/ask", "/api/judge", "/api/choose", "/api/try"):
        assert nobody.post(path, content="{}", headers=OWN | headers).status_code == 403
    if "content-type" not in headers and headers.get("origin") != "":
        assert nobody.get("/api/state", headers=headers).status_code == 403


def test_a_browser_leaves_the_usual_port_out(nobody):
    for host in ("127.0.0.1", "localhost"):
        headers = {"host": host, "origin": f"http://{host}", "content-type": "application/json"}
        assert nobody.get("/api/state", headers={"host": host}).status_code == 200
        assert nobody.post("/api/judge", content="{}", headers=headers).status_code == 400
    other = TestClient(make_app(try_model.open_tried(try_model.parse([])), 81), base_url="http://127.0.0.1:81")
    assert other.get("/api/state", headers={"host": "127.0.0.1"}).status_code == 403


def test_scores_of_a_model_are_its_own_and_not_those_of_what_it_was_compared_with():
    own = {"test_macro_f1": 0.7, "test_labels_macro_f1": 0.6, "validation_rougeL": 0.5}
    others = {"test_svm_labels_macro_f1": 1, "test_svm_macro_f1": 1, "validation_lead_rougeL": 1,
              "again_against_rougeL": 1}  # fmt: skip
    assert scores(SimpleNamespace(data=SimpleNamespace(metrics=own | others))) == own


def test_a_run_that_mlflow_cannot_give_is_a_sentence():
    tried = Tried(try_model.parse([]), None, logged=SimpleNamespace(card=SimpleNamespace(run_id="0" * 32)))
    client = TestClient(make_app(tried, 80), base_url="http://127.0.0.1:80", headers={"host": "127.0.0.1:80"})
    for run_id in ("0" * 32, mlflow.MlflowClient().create_run("0").info.run_id):
        tried.logged.card.run_id = run_id
        tried.shown.names = ["figures/gone.png"]
        answer = client.get("/api/figures/0")
        assert answer.status_code == 400
        assert answer.json()["error"]
    tried.logged.card.run_id = "0" * 32
    assert client.get("/api/figures").status_code == 400


def test_what_is_served_is_the_page_alone_under_a_policy_of_its_own(nobody):
    for path in ("/", "/page.css", "/page.js"):
        answer = nobody.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "://" not in answer.text  # Nothing of another place.
        assert "innerHTML" not in answer.text
    for path in ("/docs", "/redoc", "/openapi.json", "/server.py", "/../server.py", "/api/figures/0"):
        assert nobody.get(path).status_code in (400, 404)
    assert nobody.get("/api/state").json()["state"] == "choosing"


@pytest.mark.parametrize(
    ("content", "status"),
    [("{", 400), ("[]", 400), ('{"right": true}', 400), ("9" * 2_000_000, 400), ("[" * 10000, 400)],
)
def test_a_request_that_is_none_is_a_sentence(nobody, content, status):
    with nobody as client:
        answer = client.post("/api/judge", content=content, headers=OWN)
        assert answer.status_code == status
        assert answer.json()["error"]


def test_neither_database_nor_execute_nor_another_model_come_from_the_page(logged_model, nobody):
    given = {"uri": "/etc", "database": "x.db", "execute": True}
    assert "no such model" in nobody.post("/api/choose", json=given, headers=OWN).json()["error"]
    with served(logged_model["uri"], "--no-trace", model=answer_of("SELECT 1")) as (_, tried):
        assert call(lambda _: tried.try_out({"answer": "SELECT 1", "execute": True, "database": "x.db"})) is not None
        found = []
        tried.ask({"question": "q", "schema": "CREATE TABLE a (b INT)", "execute": True, "database": "x.db"},
                  lambda **event: found.append(event))  # fmt: skip
        assert not any("columns" in event.get("answer", {}) for event in found)


def test_an_answer_can_be_judged_though_the_base_behind_it_was_stopped():
    record, told, traced = Record({"article": "a"}, {}, []), [], []

    def stop(record, emit):
        raise Stopped

    view = SimpleNamespace(model=object(), ask=lambda given, emit: record, ask_base=stop)
    traces = SimpleNamespace(keep=traced.append)
    tried = Tried(try_model.parse([]), None, view=view, traces=traces)
    with pytest.raises(Stopped):
        tried.ask({"article": "a", "base": True}, lambda **event: told.append(event))
    assert told == [{"key": record.key, "is_traced": True}]
    assert traced == list(tried.kept.values()) == [record]


def test_corrections_that_were_not_sent_are_kept_when_another_model_is_chosen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("finetune.page.tried.open_model", lambda uri: SimpleNamespace(parameters={}))
    monkeypatch.setattr(Tried, "_view", lambda *arguments: None)
    left = [Record({"article": "a"}, {}, [], expected={"summary": "s"}), Record({"article": "b"}, {}, [])]
    tried = Tried(try_model.parse(["--no-trace"]), None, traces=SimpleNamespace(close=lambda seconds: left))
    tried.open("models:/m-other")
    (path,) = tmp_path.glob("corrections-*.jsonl")
    assert json.loads(path.read_text()) == {"article": "a", "summary": "s"}


def test_one_request_at_a_time_and_the_next_one_sees_its_place(logged_model):
    gate, begun = threading.Event(), threading.Event()

    def answer(encoded, **_):
        begun.set()
        gate.wait(60)
        return [{"sql": "SELECT 1", "ended": True, "token_ids": []}]

    model = answer_of("")
    model.answer = answer
    tried = try_model.open_tried(try_model.parse([logged_model["uri"], "--no-trace"]))
    assert tried.state()["state"] == "loading"
    tried.view.model = model
    given = json.dumps({"question": "q", "schema": "CREATE TABLE a (b INT)"})
    found: dict[int, list] = {}
    with TestClient(make_app(tried, 80), base_url="http://127.0.0.1:80", headers={"host": "127.0.0.1:80"}) as client:

        def ask(number: int):
            text = client.post("/api/ask", content=given, headers=OWN).text
            found[number] = [json.loads(line) for line in text.splitlines()]

        threads = [threading.Thread(target=ask, args=(number,)) for number in (1, 2)]
        threads[0].start()
        assert begun.wait(60)
        threads[1].start()
        while client.get("/api/state").json()["queue"] < 2:
            pass
        gate.set()
        for thread in threads:
            thread.join()
    assert [event["place"] for event in found[2] if "place" in event] == [1, 0]
    assert any("answer" in event for event in found[2])


def test_a_model_with_its_base_in_it_is_asked_without_the_one_of_training(tmp_path):
    card = make_checkpoint(tmp_path / "checkpoint-1", make_base(tmp_path / "base", byte_level_tokenizer()))
    gone = replace(card, base_model=str(tmp_path / "gone"))
    logged = LoggedModel(gone, tmp_path / "checkpoint-1", {}, own=card)
    flags = SimpleNamespace(base_model=None, execute=False, candidates=None)
    assert Questions(flags, logged, {}, None).limit is not None


def test_another_candidate_is_taken_where_the_first_finds_nothing(tmp_path, hostile_database):
    card = make_checkpoint(tmp_path / "checkpoint-1", make_base(tmp_path / "base", byte_level_tokenizer()))
    given = "--database", str(hostile_database), "--execute", "--candidates", "3"
    logged, database = LoggedModel(card, tmp_path / "checkpoint-1", {}), open_database(str(hostile_database), None)
    view, told = Questions(try_model.parse(list(given)), logged, {}, database), []
    view.model, counts = answer_of("SELECT age FROM head WHERE age = 1"), []

    def others(prompt, count, first, **_):
        counts.append((count, first))
        return [SimpleNamespace(text="SELECT nothing FROM head"), SimpleNamespace(text="SELECT age FROM head")]

    view.model.others = others
    record = view.ask({"question": "How old is the head?"}, lambda **event: told.append(event))
    shown = told[-1]["answer"]
    assert counts == [(3, "SELECT age FROM head WHERE age = 1")]
    assert (shown["text"], shown["first_sql"]) == ("SELECT age FROM head", "SELECT age FROM head WHERE age = 1")
    assert (shown["rows"], record.outputs["first_sql"]) == ([[57]], "SELECT age FROM head WHERE age = 1")
