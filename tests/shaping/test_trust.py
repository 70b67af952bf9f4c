"""Trust-GRPO's gamma: the sheet's group of two right and two wrong rows, and what has no contrast."""

import functools
import math

import pytest
import torch

from rlpost.config import build, compose
from rlpost.errors import ConfigError
from rlpost.schedule import bind
from rlpost.shaping.trust import trust

NAN = math.nan
NAMES = ("thinking_judge", "correct", "format")


def judged(verdicts, outcomes, group=None, **knobs):
    table = torch.tensor([[v, o, 0.7] for v, o in zip(verdicts, outcomes, strict=True)], dtype=torch.float64)
    ids = torch.zeros(len(table)).long() if group is None else torch.tensor(group)
    found = trust(table, NAMES, ids, **knobs)
    assert torch.equal(found[:, 1:].nan_to_num(-1), table[:, 1:].nan_to_num(-1)), "only the judge's column changes"
    return found[:, 0].tolist()


def test_a_judge_that_prefers_the_wrong_is_believed_less():
    gamma = math.exp(0.3 - 0.8)
    assert judged([0.3, 0.3, 0.8, 0.8], [1, 1, 0, 0], alpha=1.0) == pytest.approx(
        [0.3 * gamma, 0.3 * gamma, 0.8 * gamma, 0.8 * gamma]
    )
    assert gamma == pytest.approx(0.607, abs=5e-4)
    assert judged([0.8, 0.8, 0.3, 0.3], [1, 1, 0, 0], alpha=1.0) == pytest.approx([0.8, 0.8, 0.3, 0.3])
    assert judged([0.8, 0.8, 0.3, 0.3], [1, 1, 0, 0]) == pytest.approx([0.24, 0.24, 0.09, 0.09]), "alpha is 0.3"


def test_uneven_groups_thresholds_and_rows_that_do_not_count():
    # group 5: right .2, .4 (mean .3), wrong .6; the row without an outcome is in neither but is scaled too
    gamma = math.exp(0.3 - 0.6)
    found = judged([0.2, 0.6, 0.9, 0.4, 0.9, NAN], [1.0, 0.49, 1.0, 0.5, NAN, 1.0], group=[5, 5, 2, 5, 5, 5], alpha=0.5)
    assert found[:5] == pytest.approx([0.1 * gamma, 0.3 * gamma, 0.45, 0.2 * gamma, 0.45 * gamma])
    assert math.isnan(found[5])
    # with a threshold of .4 all of group 5 are right: nothing to compare
    assert judged([0.2, 0.6], [1.0, 0.49], alpha=1.0, threshold=0.4) == pytest.approx([0.2, 0.6])
    assert judged([0.2, 0.6], [0.0, 0.1], alpha=1.0) == pytest.approx([0.2, 0.6])


def test_the_published_code_judges_no_wrong_answer():
    how = {"alpha": 1.0, "judge_wrong_answers": False}
    assert judged([0.3, 0.3, 0.8, 0.8], [1, 1, 0, 0], **how) == pytest.approx([0.3, 0.3, 0, 0]), "gamma is always 1"
    # 0.3 is wrong but judged: its 0.9 against the right one's 0.4
    gamma = math.exp(0.4 - 0.9)
    assert judged([0.4, 0.9], [1, 0.3], **how) == pytest.approx([0.4 * gamma, 0.9 * gamma])
    # groups 0 and 1 are all right and all wrong, 2 has no contrast only with its row that has no outcome
    found = judged([0.5] * 6, [1, 0.9, 0.1, 0, 1, NAN], group=[0, 0, 1, 1, 2, 2], **how)
    assert found == pytest.approx([0, 0, 0, 0, 0, 0.5])
    assert math.isnan(judged([NAN, 0.5], [0, 1], **how)[0]), "a judgement that does not apply stays so"


def test_unknown_rewards_are_refused():
    with pytest.raises(ConfigError, match="'style'"):
        judged([0.2], [1.0], judged="style")


def test_the_option_decays_with_the_step():
    node = compose("grpo", ["recipe=trust_grpo"]).tree["shaping"]["trust"]
    built = build(node)
    for step, alpha in ((0, 0.3), (500, 0.3 / math.e), (1000, 0.3 / math.e**2)):
        now = bind(built, step, 0.0)
        assert isinstance(now, functools.partial) and now.keywords["alpha"] == pytest.approx(alpha)
