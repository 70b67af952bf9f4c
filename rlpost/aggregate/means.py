"""The means of published losses as token weights W (N,T): loss = sum(W * value).

`counts` spans the whole optimizer step on all ranks, so every weight but `local_token_mean` is indifferent to how the
step was cut. An (N,1) value is spread over the row's tokens by the step, with the same weights.
"""

from jaxtyping import Float
from torch import Tensor

from rlpost.types import Counts, Mask


def row_mean(mask: Mask, counts: Counts) -> Float[Tensor, "N T"]:
    """Mean over a row's tokens, then over rows: every row weighs the same (GRPO).

    Equation:
        W = mask / (length of the row * rows of the step)

    Reduces to:
        token_mean when all rows have the same length.

    Edge cases:
        A row without tokens has weight 0 and still counts as a row, as in TRL.

    Paper:
        DeepSeekMath, arXiv 2402.03300, eq. 3; TRL loss_type grpo.
    """
    m = mask.float()
    return m / (m.sum(-1, keepdim=True).clamp(min=1) * max(counts.rows, 1))


def token_mean(mask: Mask, counts: Counts) -> Float[Tensor, "N T"]:
    """Mean over all tokens of the step: every token weighs the same (DAPO).

    Equation:
        W = mask / tokens of the step

    Reduces to:
        row_mean when all rows have the same length.

    Edge cases:
        A step without tokens has weight 0 everywhere.

    Paper:
        DAPO, arXiv 2503.14476, section 3.3; TRL loss_type dapo.
    """
    return mask.float() / max(counts.tokens, 1)


def fixed_length(mask: Mask, counts: Counts, *, max_tokens: int) -> Float[Tensor, "N T"]:
    """Sum over a row's tokens divided by a constant, then mean over rows: no length bias (Dr. GRPO).

    Equation:
        W = mask / (max_tokens * rows of the step)

    Reduces to:
        row_mean when all rows have max_tokens tokens.

    Edge cases:
        max_tokens only scales the loss; TRL takes the longest allowed completion.

    Paper:
        Understanding R1-Zero-Like Training, arXiv 2503.20783, section 3.2; TRL loss_type dr_grpo.
    """
    return mask.float() / (max_tokens * max(counts.rows, 1))


def local_token_mean(mask: Mask, counts: Counts) -> Float[Tensor, "N T"]:
    """Mean over the tokens of this micro-batch, then over micro-batches and ranks (TRL's bnpo).

    Equation:
        W = mask / (tokens of the micro-batch * micro-batches of the step on all ranks)

    Reduces to:
        token_mean when the step is one micro-batch on one rank.

    Edge cases:
        The declared exception: the gradient depends on how the step was cut. token_mean is the invariant form.

    Paper:
        None; TRL 1.16 loss_type bnpo. The name refers to arXiv 2506.02864, whose Beta normalisation TRL does not have.
    """
    m = mask.float()
    return m / (m.sum().clamp(min=1) * max(counts.micro_batches, 1))


local_token_mean.couples_rows = True  # type: ignore[attr-defined]
