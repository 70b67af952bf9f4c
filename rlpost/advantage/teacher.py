"""Credit from a teacher instead of a reward: on-policy distillation, per token."""

from rlpost.objective.ratio import bounded
from rlpost.types import NT


def teacher_gain(old_logp: NT, teacher_logp: NT) -> NT:
    """How much likelier the teacher finds each token than the policy: plain on-policy distillation.

    Equation:
        advantage_t = teacher_logp_t - old_logp_t

    Reduces to:
        extrapolated at scale 1, where the reference cancels.

    Edge cases:
        Bounded at +-20 nats, also where the teacher gives a token no probability. Rewards are not read, so a prompt
        needs one completion only.

    Paper:
        G-OPD, arXiv 2602.12125: its case lambda = 1, the gradient of KL(policy || teacher) per token.
    """
    return bounded(teacher_logp - old_logp)


def extrapolated(old_logp: NT, teacher_logp: NT, ref_logp: NT, *, scale: float = 1.25) -> NT:
    """The teacher's log-ratio to a reference as reward, scaled beyond 1, under a KL penalty of 1 to that reference.

    Equation:
        advantage_t = scale * (teacher_logp_t - ref_logp_t) - (old_logp_t - ref_logp_t)

    Reduces to:
        teacher_gain when scale is 1.

    Edge cases:
        The optimum is proportional to ref * (teacher / ref)^scale: above 1 the policy goes past the teacher, below 1 it
        stops on the way. Bounded at +-20 nats. Rewards are not read, so a prompt needs one completion only.

    Paper:
        G-OPD (ExOPD), arXiv 2602.12125; scale is its lambda.
    """
    return bounded(scale * bounded(teacher_logp - ref_logp) - (old_logp - ref_logp))
