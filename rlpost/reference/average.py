"""References that follow the policy."""

from rlpost.errors import ConfigError


def moving_average(step: int, *, decay: float = 0.995, every: int = 10) -> float:
    """The share of the reference's old weights that stays after `step` optimizer steps; the policy fills the rest.

    Equation:
        reference <- share * reference + (1 - share) * policy
        share = decay where every divides step, 1 otherwise
    Reduces to:
        a fixed reference when decay is 1; the policy of at most `every` steps ago when decay is 0.
    Edge cases:
        Step 0 counts as no step: the reference starts as the policy. Below float32 the average is kept in float32
        beside the model, where a small share would be rounded away. It needs a copy of all weights: refused with an
        adapter, whose reference is the policy without it, and with sharded weights (FSDP, DeepSpeed).

    Paper:
        GRPO-CARE, arXiv 2506.16141: 0.995 every 10 steps. TR-DPO, arXiv 2404.09656, has the rule for DPO.
    """
    if not 0 <= decay <= 1 or every < 1:
        raise ConfigError(f"reference moving_average has decay={decay:g}, every={every}; a share and 1 step or more")
    return decay if step and step % every == 0 else 1.0
