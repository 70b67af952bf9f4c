import subprocess
import sys

from rlpost.config import compose
from rlpost.plan import models
from rlpost.plan.second import sizes
from rlpost.plan.skeleton import as_trained, skeleton


def needed(command, *overrides):
    cfg = compose(command, ["model=tiny", *overrides])
    assert not cfg.faults, cfg.faults
    return cfg.tree, {need.role: need for need in models.needed(command, cfg.tree)}


def test_a_plain_run_holds_the_policy_alone():
    for command in ("grpo", "sft", "reward"):
        assert list(needed(command)[1]) == ["policy"]


def test_the_function_that_asks_for_a_reference_is_named():
    _, found = needed("grpo", "regularizer=[kl_k3]")
    assert found["reference"].because == ("regularizer.kl_k3: kl_k3 reads ref_logp",)
    _, found = needed("dpo")
    assert found["reference"].because[0].startswith("preference: dpo reads ref_chosen_logp")


def policy(tree):
    return as_trained(skeleton(tree["model"]), "grpo", tree)


def test_a_reference_is_a_copy_unless_there_is_an_adapter():
    weights = 4 * 26880 + 32
    tree, found = needed("grpo", "regularizer=[kl_k3]")
    assert sizes(list(found.values()), policy(tree), tree) == ({"reference": weights}, [])
    tree, found = needed("grpo", "regularizer=[kl_k3]", "peft=lora")
    assert sizes(list(found.values()), policy(tree), tree) == ({"reference": 0}, [])


def test_teacher_and_judge_are_counted_where_they_live():
    tree, found = needed("grpo", "recipe=kdrl")
    assert found["teacher"].because[0].startswith("regularizer.teacher_k2: ")
    assert sizes(list(found.values()), policy(tree), tree)[0] == {"teacher": 4 * 26880 + 32}
    tree, found = needed("grpo", "reward=[judge_rubric]", "scorer@models.judge=stand_in")
    assert "asks models.judge" in found["judge"].because[0]
    assert sizes(list(found.values()), policy(tree), tree)[0] == {"judge": 0}
    assert "stand-in" in models.place(found["judge"])


def test_teachers_by_task_are_counted_with_what_they_hold():
    weights = 4 * 26880 + 32
    tree, found = needed("grpo", "recipe=g_opd", "scorer@models.teacher=told")
    assert sizes(list(found.values()), policy(tree), tree)[0]["teacher"] == weights
    own = "{_target_: rlpost.models.scorer.local.Local, model: ${model}}"
    routed = ["scorer@models.teacher=routed", f"models.teacher.teachers={{a: {own}, b: {own}}}"]
    tree, found = needed("grpo", "recipe=g_opd", *routed)
    assert sizes(list(found.values()), policy(tree), tree)[0]["teacher"] == 2 * weights


def test_a_critic_is_a_trunk_that_trains_and_a_head():
    tree, found = needed("grpo", "recipe=ppo")
    assert found["critic"].because == ("advantage: gae_kl reads value",)
    trunk = 4 * 26880 - 4 * policy(tree).get_output_embeddings().weight.numel() * (not tied(tree))
    assert sizes(list(found.values()), policy(tree), tree)[0]["critic"] == 4 * trunk + 32 + 4 * 4 * (32 + 1)


def tied(tree):
    return policy(tree).config.tie_word_embeddings


def test_models_that_are_read_after_a_skeleton_have_their_weights():
    """In a process of its own, since what counts is which module of transformers is imported first."""
    code = (
        "import sys\n"
        "from rlpost.plan.skeleton import _of_auto, skeleton, weightless\n"
        "assert skeleton({'_target_': 'rlpost.models.tiny.text'}).model.device.type == 'meta'\n"
        "from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel\n"
        "kinds = (AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel)\n"
        "assert not [k for k in kinds if k.from_pretrained.__name__.startswith('_of')], 'a stand-in is left'\n"
        "with weightless():\n"
        "    assert AutoModelForCausalLM.from_pretrained.__func__ is _of_auto\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
