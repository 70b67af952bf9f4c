"""Models that give a text one score: a fresh linear head on a language model's trunk, in transformers' own class."""

import copy
from typing import Any

import torch

from rlpost.errors import ModelError
from rlpost.models.encode import Bundle, Encoder


def with_score_head(bundle: Bundle, *, seed: int) -> Any:
    """The trunk of the bundle's model under a new head of one output, read at the last token that is no padding.

    What `save_pretrained` writes loads again with `AutoModelForSequenceClassification.from_pretrained`.
    Raises ModelError for an architecture that has no such class.
    """
    from transformers import AutoModelForSequenceClassification

    _pad_apart(bundle.encoder)
    config = copy.deepcopy(bundle.model.config)
    config.num_labels, config.pad_token_id = 1, bundle.encoder.pad_id
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = AutoModelForSequenceClassification.from_config(config, dtype=bundle.model.dtype)
        except ValueError as error:
            raise ModelError(
                f"{type(bundle.model).__name__} has no variant that scores a sequence, so it cannot become a reward "
                "model; pick a text model such as model=smollm2"
            ) from error
    model.base_model.load_state_dict(bundle.model.base_model.state_dict())
    return model.eval()


def score_adapter(peft: dict[str, Any] | None) -> dict[str, Any] | None:
    """The peft configuration for a model with a score head: the head trains whole, beside the adapters."""
    if not peft or "_target_" not in peft:
        return peft
    return {**peft, "task_type": "SEQ_CLS", "modules_to_save": [*(peft.get("modules_to_save") or []), "score"]}


def _pad_apart(encoder: Encoder) -> None:
    """Pad with a token that ends no answer: the score is read at the last token that is no padding."""
    tokenizer = encoder.tokenizer
    if tokenizer.pad_token_id not in encoder.stop_ids:
        return
    others = [t for t in (tokenizer.unk_token, tokenizer.bos_token, *tokenizer.all_special_tokens) if t is not None]
    free = [token for token in others if tokenizer.convert_tokens_to_ids(token) not in encoder.stop_ids]
    if not free:
        raise ModelError("the tokenizer pads with its stop token and has no other special token; give it a pad token")
    tokenizer.pad_token = free[0]
