"""The report is one safe, self-contained page with what the run measured."""

import re
from html.parser import HTMLParser

import pytest

from rlpost.config import Config
from rlpost.errors import ConfigError
from rlpost.run import curves, report
from rlpost.run.folder import RunFolder

ATTACK = "<script>alert('x')</script><img src=https://evil.example/a.png onerror=alert(1)>"


class Tags(HTMLParser):
    """Collects tags with attributes, and the text outside of scripts and styles."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self._inside = [], "", ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.text += data


@pytest.fixture
def folder(tmp_path):
    tree = {"seed": 7, "run": {"dir": str(tmp_path / "r")}, "trainer": {"lr": 1e-5}, "about": {"dapo": {"title": "D!"}}}
    picks = {"recipe": ["dapo"], "model": ["tiny"]}
    run = RunFolder.create(Config("grpo", tree, {"trainer.lr": "command line"}, picks, []))
    for step in range(1, 31):
        run.log(
            {"step": step, "reward": step / 30, "rewards/correct": step / 40, "rewards/format": 1.0, "odd_one": 2.0}
        )
    run.log({"step": 30, "train_runtime": 12.0})
    run.log({"step": 15, "phase": "eval", "pass@1": 0.3})
    run.log({"step": 30, "phase": "eval", "pass@1": 0.4})
    return run


def row(step, group, index, **more):
    scores = {"correct": 1.0, "format": None}
    base = {"step": step, "task": "t", "group": group, "row": index, "prompt": "2+2?", "text": "4", "scores": scores}
    return {**base, "stop": "eos", "tokens": 3, "reward": 1.0, "advantage": 0.5, **more}


def page(run) -> tuple[str, Tags]:
    html = run.report().read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(html)
    return html, tags


def test_untrusted_text_is_shown_and_never_run(folder):
    folder.rollouts([row(1, "g", 0, text=ATTACK, prompt=ATTACK, task=ATTACK, scores={ATTACK: 1.0})])
    folder.rollouts([row(1, "g", 1, info={"thumbnails": ["abc=", '" onerror="alert(1)']})])
    folder.done(ConfigError(ATTACK))
    html, tags = page(folder)
    assert ATTACK not in html
    assert ATTACK in tags.text
    assert sum(tag == "script" for tag, _ in tags.tags) == 1
    assert all("onerror" not in attributes for _, attributes in tags.tags)
    assert [a["src"] for tag, a in tags.tags if tag == "img"] == ["data:image/jpeg;base64,abc="]


def test_the_page_asks_nobody_for_anything(folder):
    html, tags = page(folder)
    for tag, attributes in tags.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "action"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("#", "data:")), (tag, value)
    assert not re.search(r"url\((?!['\"]?#)|@import|fetch\(|XMLHttpRequest", html)


def test_it_shows_result_curves_configuration_and_environment(folder):
    folder.rollouts([row(1, "a", 0), row(1, "a", 1, reward=0.0, advantage=[-0.5, None, -1.5], role="contrast")])
    held = {"metric": "pass@1", "before": [0.1, 0.05, 0.15, 50], "after": [0.5, 0.4, 0.6, 50]}
    folder.done({"held_out": held, "reward": {"start": 0.2, "end": 0.9}, "minutes": 3.21})
    html, tags = page(folder)
    text = re.sub(r"\s+", " ", tags.text)
    for part in ("grpo · dapo", "D!", "0.100 → 0.500", "95% interval [0.050, 0.150] to [0.400, 0.600]", "0.200 → 0.900",
                 "3.2", "Held-out pass@1", "Reward columns", "More measures (1)", "odd_one", "versions.numpy",
                 "lr: 1.0e-05 # command line", "mean reward 0.500", "-1.000", "contrast",
                 "All 2 completions"):  # fmt: skip
        assert part in text, part
    assert html.count("<svg") == 4
    assert "#0d0001" not in html
    assert "var(--s1)" in html


def test_scores_of_spans_are_shown_by_their_mean(folder):
    folder.rollouts([row(1, "a", 0, scores={"steps": [0.25, None, -1.5], "none": [None]})])
    folder.done({"minutes": 1.0})
    _, tags = page(folder)
    assert "-0.625" in tags.text and "None" not in tags.text


def test_a_run_that_has_logged_nothing_still_has_a_page(tmp_path):
    run = RunFolder.create(Config("grpo", {"run": {"dir": str(tmp_path / "n")}}, {}, {}, []))
    _, tags = page(run)
    assert "This run has logged no metrics." in tags.text
    assert "running" in tags.text
    with pytest.raises(ConfigError, match="not a run folder"):
        report.write(tmp_path)


def test_metrics_that_are_no_finite_numbers_still_have_a_page(tmp_path):
    run = RunFolder.create(Config("grpo", {"seed": 0, "run": {"dir": str(tmp_path / "r")}}, {}, {}, []))
    run.log({"step": 1, "reward": float("nan"), "grad_norm": float("inf"), "a/b$c_{": 1e300, "none": None, "said": "x"})
    run.log({"step": 2, "reward": 0.5, "grad_norm": float("-inf"), "a/b$c_{": -1e300, "none": None, "said": "y"})
    _, tags = page(run)
    assert "a/b$c_{" in tags.text and "said" not in tags.text


def test_large_runs_show_whole_groups_of_steps_spread_over_the_run():
    rows = [row(step, f"{step}-{group}", index) for step in range(1, 101) for group in range(4) for index in range(8)]
    shown = report.choose(rows, 480)
    steps = sorted({item["step"] for item in shown})
    assert len(shown) <= 480
    assert (steps[0], steps[-1]) == (1, 100)
    assert len(steps) >= 25
    sizes = {}
    for item in shown:
        sizes[item["group"]] = sizes.get(item["group"], 0) + 1
    assert set(sizes.values()) == {8}
    assert len(report.choose(rows[:20], 480)) == 20
    wide = [row(1, "g", index) for index in range(700)]
    assert len(report.choose(wide, 480)) == 700


def test_curves_take_numbers_only_and_each_metric_once():
    records = [
        {"step": 1, "phase": "train", "reward": None, "note": "x", "kl": 0.1},
        {"step": 2, "reward": 0.5, "k3/kl": 0.2},
    ]
    found = {curve.name: (curve.steps, curve.values) for curve in curves.collect(records)}
    assert found == {"reward": ([2], [0.5]), "kl": ([1], [0.1]), "k3/kl": ([2], [0.2])}
    main, more = curves.charts(records)
    assert [chart.title for chart in main] == ["Reward", "KL to the reference"]
    assert more == []


def test_running_mean():
    assert curves.running_mean([1.0, 2.0, 6.0, 10.0], 3) == [1.0, 1.5, 3.0, 6.0]


def test_a_chart_does_not_show_what_was_drawn_before_it():
    few = [curves.Curve("loss", [1, 2, 3], [1e-6, 2e-6, 0])]
    many = [curves.Curve(f"part_{i}", list(range(50)), [1000.0 * i + j for j in range(50)]) for i in range(4)]
    first = curves.draw(few)
    other = curves.draw(many, marked=True)
    assert curves.draw(few) == first and curves.draw(many, marked=True) == other
    curves._sheet.cache_clear()
    assert curves.draw(many, marked=True) == other
    assert "part_0" in other and "part_0" not in first
