"""avg@k, pass@k and maj@k on counts that can be checked by hand."""

from itertools import combinations

import pytest

from rlpost.errors import RewardError
from rlpost.metric.solved import avg_at_k, maj_at_k, pass_at_k
from rlpost.types import Prompt, Rollout, Task


def rows(task, answers, right=("a",), scores=None, info=True):
    return [
        Rollout(
            task=Task(id=task, prompt=()), group=task, prompt=Prompt(ids=[]), tokens=[], trains=[], gen_logp=[],
            stop="eos", text=f" {answer}", scores={"correct": float(answer in right) if scores is None else scores[i]},
            info={"answer": answer} if info else {},
        )
        for i, answer in enumerate(answers)
    ]  # fmt: skip


MIXED = rows("x", "abba") + rows("y", "bbbba") + rows("z", "aa")


def test_avg_at_k():
    assert avg_at_k(MIXED) == {"avg@2-5": pytest.approx((2 / 4 + 1 / 5 + 1) / 3)}
    assert avg_at_k(MIXED, k=2) == {"avg@2": pytest.approx((0.5 + 0 + 1) / 3)}
    graded = rows("x", "ab", scores=[0.25, 0.5])
    assert avg_at_k(graded) == {"avg@2": pytest.approx(0.375)}
    by_step = rows("x", "ab", scores=[[0.5, None, 1.0], [None]])  # .75, and one that does not apply
    assert avg_at_k(by_step) == {"avg@1": pytest.approx(0.75)}


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_at_k_is_the_average_over_all_subsets(k):
    found = pass_at_k(rows("y", "bbaba"), k=k)
    subsets = list(combinations("bbaba", k))
    assert found == {f"pass@{k}": pytest.approx(sum("a" in s for s in subsets) / len(subsets))}


def test_pass_at_k_over_tasks_and_threshold():
    # 1 - C(2,2)/C(4,2) = 5/6; 1 - C(4,2)/C(5,2) = .4; 1
    assert pass_at_k(MIXED) == {"pass@2": pytest.approx((5 / 6 + 0.4 + 1) / 3)}
    graded = rows("x", "abc", scores=[0.5, 0.2, 0.0])
    assert pass_at_k(graded, k=1) == {"pass@1": 0.0}
    assert pass_at_k(graded, k=1, threshold=0.5) == {"pass@1": pytest.approx(1 / 3)}


def test_maj_at_k():
    # x: a and b tie, one of them right; y: b wins; z: a
    assert maj_at_k(MIXED) == {"maj@2-5": pytest.approx((0.5 + 0 + 1) / 3)}
    assert maj_at_k(MIXED, k=2) == {"maj@2": pytest.approx((0.5 + 0 + 1) / 3)}
    assert maj_at_k(rows("x", "babaa"), k=4) == {"maj@4": 0.5}
    assert maj_at_k(rows("x", "baa", info=False)) == {"maj@3": 1.0}
    votes = rows("x", ["a", None, None])
    assert maj_at_k(votes) == {"maj@3": 1.0} and maj_at_k(votes[1:]) == {"maj@2": 0.0}
    assert maj_at_k(rows("x", "aab", scores=[0.5, 0.5, 0.0]), threshold=0.5) == {"maj@3": 1.0}


def test_scores_that_do_not_apply_are_left_out():
    some = rows("x", "ab") + rows("y", "ab", scores=[None, 1.0])
    assert avg_at_k(some, k=1) == {"avg@1": 1.0}
    with pytest.raises(RewardError, match=r"'accuracy'.*correct"):
        avg_at_k(some, score="accuracy")
    with pytest.raises(RewardError, match=r"k=2, but task 'y' has 1"):
        pass_at_k(some, k=2)
    with pytest.raises(RewardError, match="k=0"):
        maj_at_k(some, k=0)


def test_several_scores_share_the_rollouts_and_the_first_that_applies_counts():
    some = rows("x", "ab") + rows("y", "ab")
    for r, values in zip(some, [(1.0, None), (None, 0.0), (None, 1.0), (0.25, 1.0)], strict=True):
        r.scores = dict(zip(("choice", "number"), values, strict=True))
    # task x: 1 and 0; task y: 1 and 0.25 (the first column wins over the second): (0.5 + 0.625) / 2
    assert avg_at_k(some, score=["choice", "number"]) == {"avg@2": 0.5625}
    assert pass_at_k(some, score=["number", "choice"], k=1) == {"pass@1": 0.75}
