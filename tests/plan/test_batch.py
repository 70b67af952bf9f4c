import pytest

from rlpost.plan import batch


def tree(rows=8, accumulation=1, group=4, **trainer):
    return {
        "trainer": {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulation, **trainer},
        "rollout": {"num_generations": group},
        "launch": {"num_processes": 1},
    }


def test_a_batch_of_whole_groups():
    """8 rows x 2 micro-batches are 16 rows and 4 groups of 4 a step; 5 steps see 20 of 10 tasks: 2 epochs."""
    facts = batch.arithmetic("grpo", tree(8, 2), tasks=10, steps=5)
    assert facts["rows per step"] == 16
    assert facts["groups per step"] == 4
    assert facts["groups per micro-batch"] == 2
    assert facts["completions per generation"] == 16
    assert facts["steps on the same rollouts"] == 1
    assert facts["epochs"] == 2


def test_rollouts_that_serve_several_steps():
    """4 micro-batches of one generation are 2 steps of 2; each is trained on twice: 4 steps, half the tasks a step."""
    facts = batch.arithmetic("grpo", tree(8, 2, steps_per_generation=4, num_iterations=2), tasks=10, steps=5)
    assert facts["steps per generation"] == 2
    assert facts["groups per generation"] == 8
    assert facts["completions per generation"] == 32
    assert facts["steps on the same rollouts"] == 4
    assert facts["epochs"] == 1


def test_ranks_multiply_and_rows_are_tasks_elsewhere(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    facts = batch.arithmetic("sft", {**tree(3, 2), "launch": {"num_processes": 4}}, tasks=48, steps=6)
    assert facts["rows per step"] == 3 * 2 * 4
    assert facts["epochs"] == 6 * 24 / 48
    assert "groups per step" not in facts


def test_the_nearest_values_each_alone():
    """6 rows are 1.5 groups of 4. Rows: 4 or 8. Two micro-batches: 3 groups. Groups of 3 or of 6 divide 6."""
    found = {row["key"]: (row["now"], row["nearest below"], row["nearest above"]) for row in batch.nearest(tree(6))}
    assert found == {
        "trainer.per_device_train_batch_size": (6, 4, 8),
        "trainer.gradient_accumulation_steps": (1, None, 2),
        "rollout.num_generations": (4, 3, 6),
    }
    assert batch.nearest(tree(8)) == []


def test_what_is_not_said_is_trls_default(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert batch.numbers({}) == {"rows": 8, "accumulation": 1, "ranks": 1}


@pytest.mark.parametrize(("span", "words"), [(6, "4 or 8"), (2, ": 4"), (4, None), (None, None)])
def test_a_generation_is_a_whole_number_of_steps(span, words):
    found = batch.generation_fault(tree(8, 4, steps_per_generation=span))
    assert (found is None) if words is None else found.endswith(words)
