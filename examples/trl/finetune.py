"""Supervised fine-tuning with TRL, and the scan in front of it.

    python finetune.py questions.jsonl --model HuggingFaceTB/SmolLM2-135M-Instruct --out adapter

Scanned are exactly the rows that the trainer would get; trained is on what is left of them. Where the gate refuses the
batch, nothing is trained at all, and the report says why.
"""

import argparse
import sys
from pathlib import Path

from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import gradsentry_lib as gs


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", help="JSON lines with the columns prompt and response")
    parser.add_argument("--model", required=True, help="what is fine-tuned: a folder or a hub name")
    parser.add_argument("--out", type=Path, default=Path("adapter"))
    parser.add_argument("--steps", type=int, default=20)
    told = parser.parse_args()

    rows = load_dataset("json", data_files=told.data, split="train").rename_column("response", "completion")
    result = gs.scan(rows, name=Path(told.data).stem)
    print(result)
    result.report(told.out / "gradsentry.html")
    if not result.gate:
        print("not trained:", *[check.message for check in result.gate.failed], sep="\n  ", file=sys.stderr)
        return 3

    settings = SFTConfig(
        output_dir=str(told.out),
        max_steps=told.steps,
        per_device_train_batch_size=4,
        completion_only_loss=True,
        report_to="none",
        save_strategy="no",
        bf16=False,
    )
    trainer = SFTTrainer(told.model, settings, train_dataset=result.clean, peft_config=LoraConfig(r=4, lora_alpha=8))
    trainer.train()
    trainer.save_model()
    print(f"trained on {len(result.clean)} of {len(rows)} rows: {told.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
