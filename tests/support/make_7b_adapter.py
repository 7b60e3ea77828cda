"""Write a Mistral-7B-shaped base folder without weights, and a rank-32 adapter for it with a card."""

import json
import sys
from pathlib import Path

from finetune.models.prompts import Prompt
from finetune.rows.sql.encoding import prompt_token_ids

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

base, checkpoint, tokenizer_folder = map(Path, sys.argv[1:4])
config = MistralConfig(sliding_window=None, architectures=["MistralForCausalLM"])  # the defaults are the 7B's
config.save_pretrained(base)
tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
for folder in (base, checkpoint):
    tokenizer.save_pretrained(folder)
with torch.device("meta"):
    lora = LoraConfig(task_type="CAUSAL_LM", r=32, lora_alpha=64, target_modules="all-linear")
    model = get_peft_model(MistralForCausalLM(config), lora)
model.peft_config["default"].base_model_name_or_path = str(base)
model.peft_config["default"].save_pretrained(checkpoint)
names = {name.replace(".default", ""): p.shape for name, p in model.named_parameters() if "lora_" in name}
save_file({name: torch.zeros(shape) for name, shape in names.items()}, checkpoint / "adapter_model.safetensors")
prompt, row = Prompt.load("text_to_sql"), {"question": "How many?", "context": "CREATE TABLE t (a INT)"}
card = {
    "base_model": str(base), "base_revision": None, "quantization": None, "prompt": prompt.text, "task": "text-to-sql",
    "max_length": 512,
    "sample": [row | {"prompt_ids": prompt_token_ids(tokenizer, prompt, row)}],
}  # fmt: skip
(checkpoint / "finetune.json").write_text(json.dumps(card))
(checkpoint / "trainer_state.json").write_text(json.dumps({"best_global_step": None}))
