"""Left-to-right likelihood: each completion token given the prompt and the tokens before it."""

from typing import Any

from rlpost.errors import ModelError
from rlpost.likelihood.scoring import Likelihood, Rows, left_to_right, spread


def causal(model: Any, rows: Rows) -> Likelihood:
    """Log-probability and entropy of the completion tokens under a left-to-right model.

    Equation:
        logp_t = log pi(y_t | x, y_<t);  entropy_t = -sum_v pi(v | x, y_<t) log pi(v | x, y_<t)
    Reduces to:
        the log-softmax of the model's logits at temperature 1 without suppressed tokens
    Edge cases:
        Tokens outside the mask are not scored and hold 0. The distribution is that of sampling: temperature and
        suppressed ids count. A model that reads both ways would see the token that it predicts: ModelError.
    Paper: Attention Is All You Need, arXiv:1706.03762
    """
    if not left_to_right(model):
        raise ModelError(
            "this model reads both ways, so likelihood=causal would show it the token that it predicts; set "
            "likelihood=masked and rollout=diffusion"
        )
    found = model(**rows.inputs, ask=rows.ask)
    mask = rows.ask.mask
    divergence = None if found.divergence is None else spread(found.divergence, mask)
    return Likelihood(spread(found.logp, mask), spread(found.entropy, mask), divergence, found.hidden)


# Prompts can be packed before their completions: a token sees only what is before it.
causal.shares_prompts = True  # type: ignore[attr-defined]
