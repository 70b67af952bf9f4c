"""sample: every completion is written with its scores, and the means that are reported are theirs."""

from statistics import mean

import pytest

from rlpost.config import compose
from rlpost.run.folder import RunFolder
from rlpost.trainers import sample


def test_the_verb_writes_every_completion_with_its_scores(tmp_path, capsys):
    cfg = compose("sample", ["model=tiny", "debug=smoke", "reward.correct.weight=2", f"run.dir={tmp_path / 'run'}"])
    folder = RunFolder.create(cfg)
    result = sample.run(cfg, folder)
    lines = folder.completions()
    assert len(lines) == result["completions"] == 8 and result["tasks"] == 4
    assert [line["reward"] for line in lines] == [2 * line["scores"]["correct"] for line in lines]
    assert result["rewards"]["correct"] == pytest.approx(mean(line["scores"]["correct"] for line in lines))
    assert all(line["advantage"] is None and line["step"] is None for line in lines)
    assert "completion" in capsys.readouterr().out


def test_rows_of_a_contrast_are_sampled_as_the_rollout_decides(tmp_path):
    overrides = ["model=video_tiny", "dataset=clips", "dataset.train=4", "dataset.kinds=[direction]", "debug=smoke"]
    cfg = compose(
        "sample", [*overrides, "rollout=contrast_shuffle", "rollout.max_tokens=4", f"run.dir={tmp_path / 'run'}"]
    )
    folder = RunFolder.create(cfg)
    sample.run(cfg, folder)
    assert {line["role"] for line in folder.completions()} == {"policy", "contrast"}
