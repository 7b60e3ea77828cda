"""How far the first forward of a 4-bit T5 is from the unquantised one, by the adapter's first weights.

Run: python benchmarks/lora_starts.py BASE [--dataset demo/summaries.jsonl]

The distance is the norm of the difference of the logits of all summaries, relative to the default's. `loftq as
PEFT` is what peft.replace_lora_weights_loftq computes: the same without dividing by alpha / r.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from finetune.models.bases.loading import load_encoder_decoder, load_tokenizer
from finetune.rows.files.reading import read_rows
from finetune.training.adapters import add_adapter, init_adapter, init_settings

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear4bit
from transformers import BitsAndBytesConfig

QUANTIZATION = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.float32,
)


@torch.inference_mode()
def logits(model, batch) -> torch.Tensor:
    """Return the logits of the supervised positions, shape (positions, vocabulary)."""
    return model.eval()(**batch).logits[batch["labels"] != -100]


def main() -> None:
    """Print one line for each rank, scale and kind of first weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("--dataset", type=Path, default=Path("demo/summaries.jsonl"))
    flags = parser.parse_args()
    tokenizer = load_tokenizer(flags.base, kind="encoder-decoder")
    rows = [row for row in read_rows(flags.dataset) if row["split"] == "validation"]
    batch = tokenizer([f"summarize: {row['article']}" for row in rows], padding=True, return_tensors="pt")
    labels = tokenizer([row["summary"] for row in rows], padding=True, return_tensors="pt")
    batch["labels"] = labels["input_ids"].masked_fill(labels["attention_mask"] == 0, -100)
    original = load_encoder_decoder(flags.base, None, None)
    reference = logits(original, batch)
    print(f"{'r':>3} {'alpha':>6}  {'default':>8} {'loftq':>8} {'loftq as PEFT':>14}")
    for rank, alpha in ((6, 16), (16, 32), (16, 16), (32, 64)):
        found = {}
        for init in ("default", "loftq"):
            settings = {"target_modules": ["q", "k", "v"], "task_type": "SEQ_2_SEQ_LM", **init_settings(init)}
            model = load_encoder_decoder(flags.base, None, QUANTIZATION)
            model = add_adapter(model, LoraConfig(r=rank, lora_alpha=alpha, **settings))
            init_adapter(model, init, lambda: original, None, None)
            found[init] = (logits(model, batch) - reference).norm()
        for layer in (module for module in model.modules() if isinstance(module, Linear4bit)):
            layer.lora_B["default"].weight.data *= layer.scaling["default"]
        found["as PEFT"] = (logits(model, batch) - reference).norm()
        ratios = [float(found[name] / found["default"]) for name in ("default", "loftq", "as PEFT")]
        print(f"{rank:>3} {alpha:>6}  {ratios[0]:>8.3f} {ratios[1]:>8.3f} {ratios[2]:>14.3f}")


if __name__ == "__main__":
    main()
