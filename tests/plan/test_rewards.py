import pytest

from rlpost import assemble
from rlpost.config import compose
from rlpost.plan import rewards
from rlpost.plan.skeleton import skeleton
from rlpost.types import Task

ENCODER = skeleton({"_target_": "rlpost.models.tiny.text"}).encoder
SUMS = [Task(f"t{n}", ({"role": "user", "content": f"{n} + 1 is?"},), answer=n + 1) for n in (3, 7)]


def broken(rollouts):
    raise KeyError("no such column")


def one(rollouts):
    return [1.0] * len(rollouts)


def tried(*overrides, tasks=SUMS, nodes=None):
    tree = compose("grpo", ["model=tiny", *overrides]).tree
    if nodes:
        tree["reward"] = nodes
    return rewards.tried(assemble.reward_stack(tree), tree["reward"], tasks, ENCODER)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("3 + 9 = 12", "3 + 9 = 13"),
        ("<think>so</think> <answer>B</answer>", "<think>so</think> <answer>C</answer>"),
        ("Z", "A"),
        ("a red ball", "a red noball"),
        ("", " not"),
    ],
)
def test_a_mutation_changes_the_answer_alone(text, other):
    assert rewards.mutated(text) == other


def test_a_reward_that_works():
    """Gold is right, nothing is wrong; the prompt ends in 1, which is the answer of neither sum."""
    found = tried()[0]
    assert found.means == {"gold": 1.0, "empty": 0.0, "echo": 0.0, "mutated": 0.0}
    assert (found.form, found.samples) == ("as it is", 2)
    assert rewards.warnings([found]) == []


def test_gold_is_written_as_the_reward_wants_it():
    found = tried("reward=[multiple_choice]", "reward.multiple_choice.when=null")[0]
    assert found.means["gold"] == 1.0 and found.form == "in answer tags"


def test_a_demonstration_comes_first():
    task = Task("t", ({"role": "user", "content": "?"},), answer=4, demonstration="It is 5.")
    found = rewards.gold_texts(task)
    assert next(iter(found)) == rewards.DEMONSTRATION and found["boxed"] == "\\boxed{4}"
    scored = tried(tasks=[task])[0]
    assert scored.form == "as it is"  # the demonstration is wrong, and gold elsewhere right


def test_a_reward_that_pays_for_nothing_is_told():
    told = rewards.warnings(tried(nodes={"flat": {"_target_": f"{__name__}.one"}}))
    assert any("an empty text gets 1" in sentence for sentence in told)
    assert any("the prompt again gets 1" in sentence for sentence in told)
    assert any("nothing rewards being right" in sentence for sentence in told)


def test_gold_below_the_highest_is_told():
    means = {"gold": 0.5, "empty": 0.0, "echo": 0.0, "mutated": 0.0}
    found = rewards.Tried("mine", means, samples=2, form="as it is", highest=1.0)
    assert "gold answers get 0.5 on average, not the 1" in rewards.warnings([found])[0]


def test_what_a_reward_raises_is_kept():
    found = tried(nodes={"mine": {"_target_": f"{__name__}.broken"}})[0]
    assert found.error.exit_code == 5 and "no such column" in str(found.error)


def test_second_models_and_the_sandbox_are_not_asked():
    judged = tried("reward=[judge_rubric]", "scorer@models.judge=stand_in")[0]
    assert "models.judge" in judged.why_not and judged.means["gold"] is None
    assert "sandbox" in tried("reward=[unit_tests]")[0].why_not
    assert "no sampled task" in tried(tasks=[Task("t", ())])[0].why_not
