"""Documents: sentences with their places, and the page that shows what was found, in a real browser."""

import re
import shutil
import subprocess

from finetune import InputError
from finetune.models.documents import read_document, split_sentences
from finetune.predicting.clause_report import clause_report

import pytest
from conftest import LONGEST_WAIT
from database_servers import missing

PAGE = """<!doctype html><html><head><title>Terms</title><style>p{color:red}</style></head><body>
<!-- not shown --><script>alert("x")</script><h1>Terms of Service</h1>
<p>Welcome to <b>Acme Inc.</b> These terms
apply to you.</p><ul><li>We may end your account at any time</li><li>Laws of the U.S.A. apply (see Sec. 4.2).</li></ul>
<p>No refunds &lt;ever&gt; &amp; no returns.</p></body></html>"""


def test_html_is_read_as_it_is_seen(tmp_path):
    (tmp_path / "terms.html").write_text(PAGE)
    document = read_document(tmp_path / "terms.html")
    sentences = split_sentences(document)
    assert [sentence.text for sentence in sentences] == [
        "Terms of Service", "Welcome to Acme Inc.", "These terms apply to you.", "We may end your account at any time",
        "Laws of the U.S.A. apply (see Sec. 4.2).", "No refunds <ever> & no returns.",
    ]  # fmt: skip
    for sentence in sentences:
        assert document[sentence.start : sentence.end] == sentence.text
        assert sentence.text in document.splitlines()[sentence.line - 1]


def test_wrapped_text_is_one_sentence_and_a_blank_line_ends_one(tmp_path):
    (tmp_path / "terms.txt").write_text(
        "\ufeffWe may change\n   these terms. You agree.\n\nHEADING\n\n * * * \n\nThe end"
    )
    document = read_document(tmp_path / "terms.txt")
    found = split_sentences(document)
    assert [(s.text, s.line) for s in found] == [
        ("We may change these terms.", 1), ("You agree.", 2), ("HEADING", 4), ("The end", 8),
    ]  # fmt: skip
    assert document[found[0].start : found[0].end] == "We may change\n   these terms."


def test_documents_that_cannot_be_read(tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "broken.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "tags.html").write_text("<p></p>")
    for name, part in (("empty.txt", "has no text"), ("broken.txt", "UTF-8"), ("none.html", "there is no file"),
                       ("rows.pdf", "takes a document"), ("tags.html", "has no text")):  # fmt: skip
        with pytest.raises(InputError, match=part):
            read_document(tmp_path / name)


def report() -> str:
    document = "Fair.\n\nCourts of <Rome>.\n\nAll & more."
    clauses = [
        {"start": 7, "end": 24, "line": 3, "labels": ["Jurisdiction", "Choice of law"],
         "scores": {"Jurisdiction": 0.91, "Choice of law": 0.8}},
    ]  # fmt: skip
    return clause_report(document, clauses, 3, "terms <1>", "runs:/1/model")


def test_the_report_escapes_the_document_and_marks_the_clause():
    page = report()
    assert "Courts of &lt;Rome&gt;.</mark>" in page
    assert "Jurisdiction 0.91" in page
    assert '<a href="#clause-0">line 3</a>' in page
    assert "All &amp; more." in page
    assert "terms &lt;1&gt;" in page
    assert "$" not in page


def test_the_report_in_a_browser(tmp_path):
    (tmp_path / "report.html").write_text(report(), encoding="utf-8")
    if not shutil.which("chromium"):
        missing("Chromium is not installed")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", f"file://{tmp_path / 'report.html'}"],
        capture_output=True,
        text=True,
        timeout=LONGEST_WAIT,
    )
    assert len(re.findall(r"<mark id=", done.stdout)) == 1
    assert "Courts of &lt;Rome&gt;" in done.stdout
