"use strict";
// What comes from a model, a document or a database is put in by textContent alone: it is never read as HTML.

const $ = (id) => document.getElementById(id);
const state = { about: null, asking: null, key: null, part: null, sentences: [], text: "" };

function make(tag, values = {}, ...inner) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(values)) {
    if (name === "text") found.textContent = value;
    else if (name === "on") for (const [event, act] of Object.entries(value)) found.addEventListener(event, act);
    else if (value === true) found.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) found.setAttribute(name, value);
  }
  found.append(...inner);
  return found;
}

async function get(path) {
  const answer = await fetch(path);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error || "the page's server refuses");
  return found;
}

async function send(path, given, signal) {
  const answer = await fetch(path, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(given), signal,
  });
  if (!answer.ok) throw new Error((await answer.json()).error || "the page's server refuses");
  return answer;
}

async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += value || "";
    const parts = rest.split("\n");
    rest = parts.pop();
    for (const part of parts) if (part) yield JSON.parse(part);
    if (done) return;
  }
}

function tell(text) { $("status").textContent = text; }
function complain(text) { $("problem").textContent = text; }

// ---- what there is

async function refresh() {
  let about;
  try {
    about = await get("/api/state");
  } catch (error) {
    complain("The server does not answer: start try_model.py again.");
    setTimeout(refresh, 2000);
    return;
  }
  if ($("problem").textContent.startsWith("The server does not answer")) complain("");
  const isNew = !state.about || state.about.uri !== about.uri || state.about.state !== about.state;
  state.about = about;
  document.body.dataset.state = about.state;
  if (isNew) show(about);
  if (about.state === "loading") tell(`The model is loading (${Math.round(about.seconds)} s). You can write already.`);
  if (about.trouble) complain(`${about.unsent} answers are not in MLflow yet: ${about.trouble}`);
  if (about.state === "loading" || about.unsent) setTimeout(refresh, 1000);
}

function show(about) {
  const isChoosing = about.state === "choosing";
  $("tabs").hidden = isChoosing;
  $("view-choose").hidden = !isChoosing;
  if (isChoosing) {
    $("view-ask").hidden = true;
    $("model").textContent = "Which model?";
    return choose();
  }
  if (about.state === "failed") complain(about.problem);
  if (about.state === "ready") tell("Ready.");
  $("model").textContent = `${about.uri}: ${about.task}, on ${about.base}`;
  showRun(about.run);
  $("base-choice").hidden = about.kind === "text" || (about.state === "ready" && !about.has_base);
  if ($("fields").dataset.uri !== about.uri) {
    $("fields").dataset.uri = about.uri;
    $("view-ask").hidden = false;
    $("fields").replaceChildren(...FIELDS[about.kind](about));
    $("answers").replaceChildren();
    $("judge").hidden = true;
    $("view-ask").classList.toggle("with-tree", about.kind === "question");
  }
}

function showRun(run) {
  if (!run.id) return;
  const link = run.href ? make("a", { href: run.href, target: "_blank", rel: "noopener", text: `run ${run.id}` })
    : make("span", { text: `run ${run.id}: ${run.command}` });
  $("run").replaceChildren(link);
}

async function choose() {
  const models = await get("/api/choices").catch((error) => { complain(error.message); return []; });
  const list = make("ul", { class: "cards" });
  for (const one of models) {
    const scores = Object.entries(one.scores).map(([name, value]) => `${name} ${value.toFixed(3)}`).join(", ");
    list.append(make("li", {}, make("button", { class: "row card", "data-uri": one.uri, on: { click: () => pick(one) } },
      make("strong", { text: `${one.run} / ${one.name}` }),
      make("div", { text: `${one.task}, experiment ${one.experiment}, logged ${one.logged}` }),
      make("div", { text: scores }))));
  }
  const none = "There is no model in the store. Train one, or try make demo; python log_model.py RUN logs it.";
  $("view-choose").replaceChildren(make("h2", { text: "Models of the store, the newest first" }),
    models.length ? list : make("p", { text: none }));
}

async function pick(one) {
  complain("");
  tell("Opening…");
  try {
    await send("/api/choose", { uri: one.uri });
  } catch (error) {
    return complain(error.message);
  }
  await refresh();
}

// ---- what is asked, by kind of model

function area(id, label, value = "", rows = 4) {
  return make("label", { text: label }, make("textarea", { id, rows, text: value, spellcheck: "false" }));
}

function filePicker(id, target) {
  const input = make("input", { type: "file", id, accept: ".txt,.md,.html,.htm", on: { change: async () => {
    const [file] = input.files;
    if (!file) return;
    if (file.size > 200000) return complain("That file has more than 200,000 bytes.");
    $(target).value = await file.text();
    $(target).dataset.html = /\.html?$/i.test(file.name) ? "yes" : "";
    if ($("document")) $("document").checked = true;
  } } });
  return make("label", { text: "or a file: " }, input);
}

const FIELDS = {
  question(about) {
    const found = [make("label", { text: "Question" }, make("input", { type: "text", id: "question", required: true }))];
    if (!about.has_database) return [...found, area("schema", "Schema (CREATE TABLE statements)", about.context)];
    const list = make("ul", { id: "tree" });
    for (const table of about.tables) {
      const columns = make("ul");
      for (const [name, type] of table.columns) {
        columns.append(make("li", { text: `${name} ` }, make("span", { class: "type", text: type })));
      }
      list.append(make("li", {}, make("details", { open: about.tables.length < 8 },
        make("summary", { text: table.name }), columns)));
    }
    const note = about.execute ? "SQL is run, as a query that cannot write." : "SQL is shown and not run (--execute).";
    found.push(make("div", { class: "tree" }, make("h2", { text: "The database" }), make("div", { text: note }), list));
    return found;
  },
  text() {
    return [area("text", "A text or a document", "", 8), filePicker("file", "text"),
      make("label", {}, make("input", { type: "checkbox", id: "document" }), "search it sentence by sentence")];
  },
  article() { return [area("article", "An article", "", 10), filePicker("file", "article")]; },
};

function given() {
  const found = { base: $("base").checked && !$("base-choice").hidden };
  for (const name of ["question", "schema", "text", "article"]) {
    if (!$(name)) continue;
    found[name] = $(name).value;
    if ($(name).dataset.html) found.html = true;
  }
  if ($("document")) found.document = $("document").checked;
  return found;
}

// ---- answers

function side(name) {
  const id = `side-${name}`;
  if ($(id)) return $(id);
  const title = { adapter: "Adapter (the trained model)", base: "Base (not trained)", yours: "Your correction" }[name];
  const found = make("section", { class: "side", id, "aria-label": title }, make("h2", { text: title }),
    make("div", { class: "answer" }), make("div", { class: "rows" }), make("p", { class: "meta seconds" }));
  $("answers").append(found);
  $("answers").classList.toggle("two", Boolean($("side-base") && $("side-adapter")));
  return found;
}

const part = (name, what) => side(name).querySelector(`.${what}`);

function textBox() {
  return make(state.about.kind === "question" ? "pre" : "div", { class: "writing prose" });
}

function place(event, answers) {
  if ("place" in event) {
    const queue = event.place === 1 ? "One request is before yours." : `${event.place} requests are before yours.`;
    const loading = state.about.state === "loading" ? "The model is loading; then comes your question." : queue;
    if (event.place > 0) tell(loading);
    else tell("Answering…");
  } else if (event.error) {
    complain(event.error);
  } else if (event.key) {
    state.key = event.key;
  } else if (event.begun) {
    part(event.side, "answer").replaceChildren(textBox());
    tell(event.side === "base" ? "Now the base answers…" : "Answering…");
  } else if (event.text !== undefined) {
    part(event.side, "answer").lastChild.textContent += event.text;
  } else if (event.answer) {
    answers[event.side] = event.answer;
    showAnswer(event.side, event.answer);
    part(event.side, "seconds").textContent = event.seconds === undefined ? "" : `${event.seconds.toFixed(1)} s`;
  }
}

function showAnswer(name, answer) {
  const into = part(name, "answer");
  if (answer.sentences) return showSentences(into, answer);
  const box = textBox();
  box.classList.remove("writing");
  box.textContent = answer.formatted || answer.text;
  into.replaceChildren(box);
  const below = [];
  const taken = "Its first SQL failed or found nothing; another candidate is taken. The first: ";
  if (answer.first_sql) below.push(make("p", { class: "meta", text: taken + answer.first_sql }));
  if (answer.error) below.push(make("p", { class: "error", text: answer.error }));
  if (answer.columns) below.push(tableOf(answer.columns, answer.rows));
  if (answer.truncated) below.push(make("p", { class: "meta", text: "More rows were there; these are the first." }));
  if (answer.doubt) below.push(make("p", { class: "meta", text: answer.doubt }));
  part(name, "rows").replaceChildren(...below);
}

function tableOf(columns, rows) {
  const head = make("tr", {}, ...columns.map((name) => make("th", { scope: "col", text: name })));
  const body = rows.map((row) => make("tr", {}, ...row.map((value) => make("td", { text: shown(value) }))));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  const count = make("p", { class: "meta", text: rows.length === 1 ? "1 row" : `${rows.length} rows` });
  return make("div", {}, make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Rows" }, table), count);
}

function shown(value) {
  if (value === null || value === undefined) return "NULL";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function showSentences(into, answer) {
  state.sentences = answer.sentences;
  const box = make("div", { class: "document" });
  const points = [...answer.document]; // The server counts characters, JavaScript halves of them.
  let at = 0;
  answer.sentences.forEach((one, number) => {
    box.append(points.slice(at, one.start).join(""));
    const text = points.slice(one.start, one.end).join("");
    // No <button>: that is a block of its own, and would break the lines of the document.
    box.append(make("span", { role: "button", tabindex: "0", class: one.found ? "sentence found" : "sentence", text,
      "aria-pressed": "false", on: { click: () => chooseSentence(number), keydown: (event) => press(event, number) } }));
    if (one.found || answer.sentences.length === 1) box.append(...labelsOf(one));
    at = one.end;
  });
  box.append(points.slice(at).join(""));
  const found = answer.sentences.filter((one) => one.found).length;
  into.replaceChildren(box);
  if (answer.sentences.length > 1) {
    part("adapter", "rows").replaceChildren(make("p", { class: "meta",
      text: `${found} of ${answer.sentences.length} sentences have a label. Choose one to say whether that is right.` }));
  }
}

function labelsOf(one) {
  if (!one.labels.length) return [make("span", { class: "label", text: "no label" })];
  return one.labels.map((name) => {
    const score = name in one.scores ? ` ${one.scores[name].toFixed(2)}` : "";
    return make("span", { class: "label", text: name + score });
  });
}

function press(event, number) {
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  chooseSentence(number);
}

function chooseSentence(number) {
  state.part = number;
  document.querySelectorAll(".sentence").forEach((one, index) => one.setAttribute("aria-pressed", index === number));
  showJudge(state.sentences[number].labels);
}

// What differs: the words of each side that are not in the longest common run of both.
function markDifference(first, second) {
  const boxes = [first, second].map((name) => part(name, "answer").lastChild);
  const words = boxes.map((box) => box.textContent.split(/(\s+|[(),;])/).filter(Boolean));
  if (words[0].length * words[1].length > 4e6) return;
  const same = common(words[0], words[1]);
  boxes.forEach((box, index) => {
    box.replaceChildren(...words[index].map((word, at) =>
      same[index].has(at) || !word.trim() ? document.createTextNode(word) : make("mark", { text: word })));
  });
}

function common(one, other) {
  const table = Array.from({ length: one.length + 1 }, () => new Uint16Array(other.length + 1));
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = other.length - 1; j >= 0; j--) {
      table[i][j] = one[i] === other[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
    }
  }
  const found = [new Set(), new Set()];
  for (let i = 0, j = 0; i < one.length && j < other.length;) {
    if (one[i] === other[j]) { found[0].add(i++); found[1].add(j++); }
    else if (table[i + 1][j] >= table[i][j + 1]) i++;
    else j++;
  }
  return found;
}

async function ask(event) {
  event.preventDefault();
  if (state.asking) return;
  const answers = {};
  complain("");
  Object.assign(state, { asking: new AbortController(), key: null, part: null, sentences: [] });
  $("answers").replaceChildren();
  $("judge").hidden = true;
  $("send").disabled = true;
  $("stop").hidden = false;
  document.body.dataset.asking = "yes";
  try {
    for await (const found of lines(await send("/api/ask", given(), state.asking.signal))) place(found, answers);
    tell($("problem").textContent ? "" : "Done.");
  } catch (error) {
    if (error.name === "AbortError") tell("Stopped.");
    else complain(error.message);
  }
  document.querySelectorAll(".writing").forEach((box) => box.classList.remove("writing"));
  if (answers.base && answers.adapter) markDifference("base", "adapter");
  if (answers.adapter && state.key) {
    state.text = answers.adapter.text || ""; // Not as it is shown: a correction would teach lines of its own.
    if (!answers.adapter.sentences || answers.adapter.sentences.length === 1) {
      if (answers.adapter.sentences) state.part = 0;
      showJudge(answers.adapter.sentences ? answers.adapter.sentences[0].labels : null);
    }
  }
  state.asking = null;
  $("send").disabled = false;
  $("stop").hidden = true;
  delete document.body.dataset.asking;
}

// ---- what a person says of an answer

function showJudge(labels) {
  const box = $("judge");
  box.hidden = false;
  if (!state.about.is_traced) {
    return box.replaceChildren(make("p", { text: "Answers are not kept (--no-trace), so none can be judged." }));
  }
  const say = make("p", { class: "said", role: "status" });
  const editor = make("div", { class: "editor" });
  editor.hidden = true;
  const press = (text, id, act) => make("button", { type: "button", id, text, on: { click: act } });
  box.replaceChildren(make("h2", { text: "Is the adapter's answer right?" }), make("div", { class: "buttons" },
    press("Right", "right", () => judge(true, null, say)),
    press("Wrong", "wrong", () => judge(false, null, say)),
    press("Correct it", "correct", () => edit(editor, say, labels))), editor, say);
}

function edit(editor, say, labels) {
  editor.hidden = false;
  const buttons = make("div", { class: "buttons" },
    make("button", { type: "button", id: "save", class: "main", text: "Save the correction",
      on: { click: () => judge(false, corrected(), say) } }));
  if (state.about.execute) {
    buttons.append(make("button", { type: "button", id: "try", text: "Run it first", on: { click: tryOut } }));
  }
  if (!labels) {
    const what = state.about.kind === "question" ? "The right SQL" : "The right summary";
    editor.replaceChildren(area("corrected", what, state.text, 6), buttons);
    $("corrected").focus();
    return;
  }
  const kind = state.about.several ? "checkbox" : "radio";
  const choices = state.about.labels.map((name, index) => make("label", {},
    make("input", { type: kind, name: "label", value: index, checked: labels.includes(name) }), name));
  editor.replaceChildren(make("fieldset", {}, make("legend", { text: "The right labels" }), ...choices), buttons);
  editor.querySelector("input").focus();
}

function corrected() {
  if ($("corrected")) return $("corrected").value;
  const chosen = [...document.querySelectorAll("#judge input[name=label]:checked")];
  return chosen.map((one) => state.about.labels[Number(one.value)]);
}

async function judge(right, answer, say) {
  const given = { key: state.key, right };
  if (state.part !== null) given.part = state.part;
  if (answer !== null) given.answer = answer;
  say.className = "said";
  say.textContent = "Saving…";
  try {
    const found = await (await send("/api/judge", given)).json();
    const what = answer !== null ? "Your correction" : right ? "Right" : "Wrong";
    say.textContent = found.kept ? `${what} is kept in MLflow.`
      : `${what} is kept here, and sent as soon as MLflow answers. ${found.trouble}`;
    say.className = "said right";
    if (!found.kept) setTimeout(refresh, 1000);
  } catch (error) {
    say.className = "said error";
    say.textContent = error.message;
  }
}

async function tryOut() {
  try {
    for await (const found of lines(await send("/api/try", { answer: corrected() }))) place(found, {});
    tell("");
  } catch (error) {
    complain(error.message);
  }
}

// ---- tabs

const TABS = ["ask", "scorecard", "figures"];

function openTab(name, focus = true) {
  for (const one of TABS) {
    const isOpen = one === name;
    $(`tab-${one}`).setAttribute("aria-selected", isOpen);
    $(`tab-${one}`).tabIndex = isOpen ? 0 : -1;
    $(`view-${one}`).hidden = !isOpen;
  }
  if (focus) $(`tab-${name}`).focus();
  const load = { scorecard: showScorecard, figures: showFigures }[name];
  if (load) load($(`view-${name}`)).catch((error) => complain(error.message));
}

function moveTab(event) {
  const at = TABS.findIndex((name) => $(`tab-${name}`) === document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: TABS.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  openTab(TABS[(to + TABS.length) % TABS.length]);
}

// The shape of a query, as far as a filter needs it.
function shapeOf(sql) {
  const text = ` ${String(sql).toUpperCase().replace(/\s+/g, " ")} `;
  const found = ["JOIN", "GROUP BY", "ORDER BY", "DISTINCT", "UNION", "HAVING"].filter((word) => text.includes(` ${word} `));
  if ((text.match(/\bSELECT\b/g) || []).length > 1) found.push("subquery");
  if (/\b(COUNT|SUM|AVG|MIN|MAX)\s*\(/.test(text)) found.push("aggregate");
  if (text.includes(" WHERE ")) found.push("WHERE");
  return found.length ? found : ["plain"];
}

async function showScorecard(into) {
  into.replaceChildren(make("p", { text: "Looking into the run…" }));
  const { tables } = await get("/api/scorecard");
  const names = Object.keys(tables);
  if (!names.length) {
    return into.replaceChildren(make("p", { text: "The run has no scorecard yet: evaluate_model.py makes one." }));
  }
  const select = (id, label, values) => make("label", { text: `${label} ` },
    make("select", { id, on: { change: () => (id === "table" ? fill() : list()) } },
      ...values.map((value) => make("option", { value, text: value || "all" }))));
  const filters = make("div", { class: "filters" }), rows = make("div");
  into.replaceChildren(filters, rows);
  let found = [];
  const fill = () => {
    const { columns, data } = tables[$("table") ? $("table").value : names[0]];
    found = data.map((row) => Object.fromEntries(columns.map((name, index) => [name, row[index]])));
    const unique = (of) => ["", ...new Set(found.flatMap(of))].sort();
    const chosen = select("table", "Table", names);
    const before = $("table") ? $("table").value : names[0];
    const more = [];
    if (columns.includes("gold")) more.push(select("shape", "Shape of the right query", unique((row) => shapeOf(row.gold))));
    if (columns.includes("adapter_verdict")) more.push(select("verdict", "Verdict", unique((row) => [verdictOf(row)])));
    filters.replaceChildren(chosen, ...more);
    chosen.querySelector("select").value = before;
    list();
  };
  const list = () => {
    const fits = found.filter((row) => (!$("shape") || !$("shape").value || shapeOf(row.gold).includes($("shape").value))
      && (!$("verdict") || !$("verdict").value || verdictOf(row) === $("verdict").value));
    const items = fits.slice(0, 200).map((row) => make("li", {}, make("button", { class: "row card", type: "button",
      on: { click: () => openRow(row) } }, ...Object.entries(row).filter(([, value]) => value !== null && value !== "")
      .map(([name, value]) => make("div", {}, make("strong", { text: `${name}: ` }), shown(value).slice(0, 400))))));
    const cut = fits.length > 200 ? ", the first 200 are shown" : "";
    rows.replaceChildren(make("p", { text: `${fits.length} of ${found.length} rows${cut}. Choose one to ask it again.` }),
      make("ul", { class: "cards" }, ...items));
  };
  fill();
}

function verdictOf(row) { return String(row.adapter_verdict || "").slice(0, 80); }

function openRow(row) {
  const values = { question: row.question, schema: row.schema, text: row.text, article: row.article };
  for (const [name, value] of Object.entries(values)) if ($(name) && value) $(name).value = value;
  openTab("ask", false);
  $("main").focus();
  const isAboutOther = row.schema && state.about.has_database;
  tell(isAboutOther ? "The question is asked of your database here, not of its own schema." : "Filled in; press Ask.");
}

async function showFigures(into) {
  into.replaceChildren(make("p", { text: "Looking into the run…" }));
  const { figures, scores } = await get("/api/figures");
  const list = Object.entries(scores).map(([name, value]) => make("li", { text: `${name}: ${value.toFixed(4)}` }));
  const images = figures.map((name, index) => make("figure", {},
    make("img", { src: `/api/figures/${index}`, alt: name, loading: "lazy" }), make("figcaption", { text: name })));
  into.replaceChildren(make("ul", {}, ...list), ...images);
  if (!images.length) into.append(make("p", { text: "The run has no figures." }));
}

// ---- start

$("form").addEventListener("submit", ask);
$("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
$("stop").addEventListener("click", () => state.asking && state.asking.abort());
$("tabs").addEventListener("keydown", moveTab);
for (const name of TABS) $(`tab-${name}`).addEventListener("click", () => openTab(name));
refresh();
