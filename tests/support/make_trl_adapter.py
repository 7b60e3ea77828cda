"""Train an adapter with TRL as its users do, and zip what it saves: `python make_trl_adapter.py adapters.zip`.

tests/runs/trl_adapter.zip was made so, by trl 1.16.0 and peft 0.21.2, from the root of the repository.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

BASE, PROMPT, DATA = Path("demo/sql-base"), Path("prompts/text_to_sql.txt"), Path("demo/text_to_sql.jsonl")
rows = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()][:640]
text = PROMPT.read_text(encoding="utf-8")
prompts = [text.replace("$context", row["context"]).replace("$question", row["question"]) for row in rows]
pairs = [{"prompt": one, "completion": row["answer"]} for one, row in zip(prompts, rows, strict=True)]
with tempfile.TemporaryDirectory() as folder:
    args = SFTConfig(
        folder, max_length=512, learning_rate=4e-3, per_device_train_batch_size=16, save_strategy="no", report_to=[],
        use_cpu=True, bf16=False, num_train_epochs=1, model_init_kwargs={"dtype": "float32"},
    )  # fmt: skip
    lora = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = SFTTrainer(str(BASE), args, train_dataset=Dataset.from_list(pairs), peft_config=lora)
    trainer.train()
    trainer.save_model(folder)
    print(shutil.make_archive(sys.argv[1].removesuffix(".zip"), "zip", folder))
