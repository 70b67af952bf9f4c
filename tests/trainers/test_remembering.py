"""What rewards remember stands in the checkpoint."""

from tests.trainers.test_reference import run, state


def test_what_a_reward_remembers_is_in_the_checkpoint(tmp_path):
    run(tmp_path, "recipe=outcome_exploration", "trainer.max_steps=2")
    seen = [state(tmp_path, k)["reward"]["answer_ucb"]["seen"] for k in (1, 2)]
    total = [sum(n for task in one.values() for n in task.values()) for one in seen]
    lines = (tmp_path / "rollouts.jsonl").read_text().splitlines()
    assert len(lines) == 8 and 0 <= total[0] <= 4 and total[0] <= total[1] <= 8
