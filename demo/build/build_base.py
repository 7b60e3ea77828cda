"""Rebuild demo/sql-base: tokenizer and pretrained decoder. Run: python demo/build/build_base.py

The base is pretrained on text generated here: schemas with questions as comments and their SQL, rows
that are inserted and described, plain English about tables. None of it looks like the fine-tuning
prompt (prompts/text_to_sql.txt), so the base does not answer it; it does know how to copy any name
or value out of a schema and a question, which a few thousand fine-tuning rows could not teach.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

from finetune.models.bases.quantization import fast_dtype
from questions import ONE_TABLE, Scene, aggregate, joined, question, schema, select_where
from vocabulary import Column, Table, Vocabulary

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

FOLDER = Path(__file__).parents[1] / "sql-base"
KEYWORDS = """
SELECT FROM WHERE AND OR GROUP BY ORDER HAVING LIMIT DESC JOIN ON AS BETWEEN LIKE DISTINCT COUNT SUM
AVG MIN MAX NOT IN CREATE TABLE INSERT INTO VALUES INTEGER VARCHAR TEXT DATE
""".split()
# Words, digits and the signs between them are never merged with each other: a name has the same
# tokens in the question, in the schema and inside quotes, and copying it is copying tokens.
PIECES = rf" ?\b(?:{'|'.join(KEYWORDS)})\b ?|\p{{L}}+|\p{{N}}|[^\p{{L}}\p{{N}}]+"
SPECIAL = ["<s>", "</s>", "<pad>"]
# BPE dropout: now and then a name is cut otherwise, so that no way of cutting it is untrained.
DROPOUT = 0.08


def sql_document(vocabulary: Vocabulary) -> str:
    """Return a schema with questions as comments and their SQL, in one of many layouts."""
    random = vocabulary.random
    loose = random.random() < 0.6
    leaky = loose and random.random() < 0.7
    two = random.random() < (0.1 if leaky else 0.3)
    typed = random.random() < (0.3 if loose else 0.8)
    columns = range(2, 5) if two else range(2, 6) if leaky else range(3, 9)
    tables = schema(vocabulary, 2 if two else 1, columns, typed, loose)
    if loose and random.random() < 0.25:
        tables = [_title_case(table) for table in tables]
    scene = Scene(vocabulary, tables[:], random.choice("'\""), loose and random.random() < 0.35, leaky)
    shapes = [joined] * 8 + ONE_TABLE if two else ONE_TABLE
    if leaky and not two:
        shapes = shapes + [select_where] * 10 + [aggregate] * 5
    end = random.choice([";", ";", ""])
    style = random.choice(COMMENTS)
    pairs = [question(scene, shapes) for _ in range(random.choice((1, 2, 3)))]
    lines = [style.format(q=_sentence(random, words), s=sql + end) for words, sql in pairs]
    return "\n".join([_layout(random, tables), *lines])


COMMENTS = [
    "-- {q}\n{s}", "/* {q} */\n{s}", "# {q}\n{s}", "{s} -- {q}", "To answer \"{q}\" run {s}",
    "-- question: {q}\n-- query:\n{s}", "-- {q}\n    {s}", "* {q} `{s}`",
]  # fmt: skip


def _title_case(table: Table) -> Table:
    columns = (Column(c.name, c.phrase.title(), c.kind, c.sql_type) for c in table.columns)
    return Table(table.name, table.plural, tuple(columns))


def _sentence(random: Random, words: str) -> str:
    words = words if random.random() < 0.3 else words[0].upper() + words[1:]
    return words + random.choice(["?", "?", "?", "", "."])


def _layout(random: Random, tables: list[Table]) -> str:
    """Lay the schema out: statements on a line, one a line, indented, or only names."""
    draw = random.random()
    if draw < 0.4:
        return random.choice(["; ", ";\n"]).join(t.create_statement() for t in tables) + random.choice([";", ""])
    if draw < 0.7:
        return "\n".join(t.create_statement(",\n  ", "(\n  ", "\n)") + ";" for t in tables)
    names = [f"{t.name}({', '.join(c.name for c in t.columns)})" for t in tables]
    return random.choice(["-- tables: ", "", "schema "]) + "; ".join(names)


def rows_document(vocabulary: Vocabulary) -> str:
    """Return inserted rows and sentences about them: copying values both ways."""
    random = vocabulary.random
    (table,) = schema(vocabulary, 1, range(2, 5), loose=random.random() < 0.5)
    quote, lines = random.choice("'\""), []
    scene = Scene(vocabulary, [table], quote)
    for _ in range(random.choice((1, 2))):
        values = [vocabulary.value(column.kind) for column in table.columns]
        literals = ", ".join(scene.literal(c, v) for c, v in zip(table.columns, values, strict=True))
        names = ", ".join(column.name for column in table.columns)
        facts = [f"the {c.phrase} is {v}" for c, v in zip(table.columns, values, strict=True)]
        sentence = f"In this row {', '.join(facts)}."
        insert = f"INSERT INTO {table.name} ({names}) VALUES ({literals});"
        lines += [insert, sentence] if random.random() < 0.5 else [sentence, insert]
    return "\n".join(lines)


def english_document(vocabulary: Vocabulary) -> str:
    """Return plain sentences about a table and its columns, then the schema or before it."""
    random = vocabulary.random
    (table,) = schema(vocabulary, 1, range(2, 7), loose=random.random() < 0.5)
    kinds = {"text": "words", "number": "a number", "year": "a year", "date": "a date"}
    listed = ", ".join(column.phrase for column in table.columns)
    about = [f"The table {table.name} is about {table.plural}.", f"Each row has its {listed}."]
    about += [f"The {c.phrase} ({c.name}) is {kinds[c.kind]}." for c in table.columns if random.random() < 0.5]
    parts = [" ".join(about), table.create_statement() + ";"]
    random.shuffle(parts)
    return "\n".join(parts)


def document(vocabulary: Vocabulary) -> str:
    """Return one pretraining document.

    Rows and sentences end with EOS; SQL is always followed by more text, as in files of real SQL. A
    base that has read only such files does not stop after an answer; fine-tuning teaches it to.
    """
    kinds = [sql_document, rows_document, english_document]
    kind = vocabulary.random.choices(kinds, (80, 12, 8))[0]
    return kind(vocabulary) + ("\n\n" if kind is sql_document else SPECIAL[1])


def train_tokenizer(vocab_size: int, seed: int) -> PreTrainedTokenizerFast:
    """Train the byte-level BPE on generated text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, initial_alphabet=alphabet)
    vocabulary = Vocabulary(Random(f"tokenizer {seed}"))
    tokenizer.train_from_iterator((document(vocabulary) for _ in range(20_000)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        model_max_length=2048, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def batches(tokenizer: PreTrainedTokenizerFast, rows: int, length: int, seed: int):
    """Yield (rows, length) input ids: whole documents packed one after the other, padded at the end."""
    vocabulary = Vocabulary(Random(f"pretraining {seed}"), blends=True)
    tokenizer.backend_tokenizer.model.dropout = DROPOUT
    pool: list[list[int]] = []
    while True:
        batch = torch.full((rows, length), tokenizer.pad_token_id)
        for row in batch:
            used = 0
            while True:
                while len(pool) < 64:
                    ids = tokenizer(document(vocabulary))["input_ids"]
                    if len(ids) <= length:
                        pool.append(ids)
                fitting = [ids for ids in pool if used + len(ids) <= length]
                if not fitting:
                    break
                # The first document is drawn as it comes, the rest fill up: long ones do not wait.
                ids = max(fitting, key=len) if used else pool[0]
                pool.remove(ids)
                row[used : used + len(ids)] = torch.tensor(ids)
                used += len(ids)
        yield batch


def probe(model, tokenizer: PreTrainedTokenizerFast, count: int = 48) -> float:
    """Return the share of exact SQL on names no pretraining text has, in a pretraining format."""
    vocabulary, right = Vocabulary(Random("probe"), held_out=True), 0
    tokenizer.backend_tokenizer.model.dropout = None
    model.eval()
    for _ in range(count):
        tables = schema(vocabulary, 1, range(3, 7))
        words, sql = question(Scene(vocabulary, tables[:]), ONE_TABLE)
        ids = tokenizer(f"{tables[0].create_statement()};\n-- {words}?\n", return_tensors="pt")
        output = model.generate(
            **ids, max_new_tokens=100, do_sample=False, pad_token_id=2, stop_strings=";", tokenizer=tokenizer
        )
        answer = tokenizer.decode(output[0, ids["input_ids"].shape[1] :]).split(";")[0]
        right += answer.replace('"', "'") == sql  # pretraining has both kinds of quotes
    model.train()
    tokenizer.backend_tokenizer.model.dropout = DROPOUT
    return right / count


def fresh_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> MistralForCausalLM:
    """Return a decoder with random weights in float32."""
    torch.manual_seed(seed)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=768, num_hidden_layers=6,
        num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=2048, sliding_window=None,
        tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    return MistralForCausalLM(config)


def pretrain(model: MistralForCausalLM, tokenizer: PreTrainedTokenizerFast, flags: argparse.Namespace) -> None:
    """Pretrain a decoder in place, saving it every 500 steps."""
    steps, rows, length = flags.steps, flags.rows, flags.length
    model.train()
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {steps} steps of {rows} x {length} tokens",
        flush=True,
    )
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=flags.learning_rate, betas=(0.9, 0.95), fused=True)
    warmup = max(1, min(200, steps // 10))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warmup, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * s / steps)))
    )
    start, mean, half = time.time(), 0.0, fast_dtype("decoder") == torch.bfloat16
    for step, ids in zip(range(1, steps + 1), batches(tokenizer, rows, length, flags.seed), strict=False):
        labels = ids.masked_fill(ids == tokenizer.pad_token_id, -100)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        mean = loss.item() if step == 1 else 0.98 * mean + 0.02 * loss.item()
        if step % 50 == 0:
            print(f"step {step} loss {mean:.3f} {(time.time() - start) / 60:.1f} min", flush=True)
        if step % 500 == 0:
            print(f"exact on held-out names: {probe(model, tokenizer):.2f}", flush=True)
            save(model, tokenizer)


def save(model: MistralForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write the base to demo/sql-base, weights in bfloat16."""
    dropout, tokenizer.backend_tokenizer.model.dropout = tokenizer.backend_tokenizer.model.dropout, None
    tokenizer.save_pretrained(FOLDER)
    tokenizer.backend_tokenizer.model.dropout = dropout
    half = MistralForCausalLM(model.config).to(torch.bfloat16)
    half.load_state_dict(model.state_dict())
    half.config.dtype = torch.bfloat16
    half.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1, pad_token_id=2)
    half.save_pretrained(FOLDER)


def main() -> None:
    """Train the tokenizer, pretrain the decoder, write both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--rows", type=int, default=20, help="sequences a step")
    parser.add_argument("--length", type=int, default=320, help="tokens a sequence")
    parser.add_argument("--vocab-size", type=int, default=2048)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--go-on", action="store_true", help="start from the present demo/sql-base")
    flags = parser.parse_args()
    if flags.go_on:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(FOLDER)
        model = MistralForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    else:
        tokenizer = train_tokenizer(flags.vocab_size, flags.seed)
        model = fresh_model(tokenizer, flags.seed)
    pretrain(model, tokenizer, flags)
    save(model, tokenizer)
    print(f"exact on held-out names: {probe(model, tokenizer, 200):.3f} -> {FOLDER}")


if __name__ == "__main__":
    main()
