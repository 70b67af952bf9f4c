"""Run as a script in a fresh process: load an exported folder with plain transformers and say what it does.

Nothing of rlpost is imported, so that what loads here loads anywhere. Arguments: the exported folder, the folder with
what is asked (`asked.json`, `asked.safetensors`) and where the answer goes (`found.json`, `found.safetensors`).
"""

import json
import sys
from pathlib import Path
from typing import Any


def main(folder: str, place: str) -> None:
    """Greedy tokens and text of each prompt, logits on given answers (f32), and the chat template's text and tokens."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer, GenerationConfig

    home = Path(place)
    asked = json.loads((home / "asked.json").read_text(encoding="utf-8"))
    tensors = load_file(home / "asked.safetensors")
    kind = AutoModelForImageTextToText if asked["vision"] else AutoModelForCausalLM
    model: Any = (
        kind.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True)
        .to(asked["device"])
        .eval()
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    greedy = GenerationConfig(**asked["generation"])
    answers, logits = [], {}
    for i, sample in enumerate(asked["samples"]):
        prompt = _inputs(tensors, f"{i}.prompt.", asked["device"])
        whole = _inputs(tensors, f"{i}.whole.", asked["device"])
        with torch.no_grad():
            tokens = model.generate(**prompt, generation_config=greedy)[0, prompt["input_ids"].shape[1] :]
            found = model(**whole, use_cache=False).logits[0, -sample["answer"] - 1 : -1]
        logits[str(i)] = found.float().cpu().contiguous()
        written = tokenizer.apply_chat_template(sample["messages"], tokenize=False, add_generation_prompt=True)
        answers.append(
            {
                "tokens": tokens.tolist(),
                "text": tokenizer.decode(tokens, skip_special_tokens=False),
                "template": written,
                "template_ids": tokenizer(written, add_special_tokens=False)["input_ids"],
            }
        )
    save_file(logits, home / "found.safetensors")
    (home / "found.json").write_text(json.dumps(answers), encoding="utf-8")


def _inputs(tensors: dict, prefix: str, device: str) -> dict:
    return {name.removeprefix(prefix): value.to(device) for name, value in tensors.items() if name.startswith(prefix)}


if __name__ == "__main__":
    main(*sys.argv[1:])
