"""Credit from a teacher, per token: instead of a reward (on-policy distillation) or beside one."""

from rlpost.advantage.group import group_zscore
from rlpost.objective.ratio import bounded
from rlpost.types import NK, NT, Ids, K


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


def group_zscore_teacher(
    rewards: NK, weights: K, group: Ids, old_logp: NT, teacher_logp: NT, *, beta: float = 0.005, epsilon: float = 1e-4
) -> NT:
    """GRPO's credit less the log-ratio to a teacher at each token: k1 as a reward, which it is fit for.

    Equation:
        advantage_t = group_zscore - beta * (old_logp_t - teacher_logp_t)

    Gradient:
        None through the log-ratio. As a loss it would teach nothing: its expected gradient is 0.

    Reduces to:
        group_zscore at beta 0; beta * teacher_gain where all rewards of a group are equal.

    Edge cases:
        The log-ratio is bounded at +-20 nats. beta may be a schedule, such as KDRL's slope from 5e-3 to 1e-3.

    Paper:
        KDRL, arXiv 2506.02208: the only form of k1 that distils.
    """
    gain = bounded(teacher_logp - old_logp)
    return group_zscore(rewards, weights, group, epsilon=epsilon)[:, None] + beta * gain
