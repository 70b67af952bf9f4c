"""Comparing run folders: pairs by what was asked, arms by seed, what differs, matched compute, one page, refusals."""

import json
import re

import numpy as np
import pytest

from rlpost.compare import command, compute, page, runs, statistics
from rlpost.errors import ConfigError, DataError
from rlpost.run import evaluations
from tests.compare.folders import completion, folder, task
from tests.run.test_report import Tags

ONE = {"a": [1.0, 0.0], "b": [0.0, 0.0], "c": [1.0, 1.0]}
TWO = {"a": [1.0, 1.0], "b": [0.0, 1.0], "c": [1.0, 0.0], "d": [1.0, 1.0]}


def test_metrics_are_computed_again_on_the_tasks_that_both_have(tmp_path):
    folder(tmp_path / "one", ONE)
    folder(tmp_path / "two", TWO)
    found = command.compare([tmp_path / "one", tmp_path / "two"])
    by_name = {metric.name: metric for metric in found.metrics}
    assert list(by_name) == ["avg@1", "avg@2", "pass@1", "pass@2"]
    # avg@2 per task: 0.5, 0, 1 against 1, 0.5, 0.5; pass@2: 1, 0, 1 against 1, 1, 1
    assert by_name["avg@2"].arms["one"].mean == pytest.approx(0.5)
    assert by_name["avg@2"].differences["two"].mean == pytest.approx((0.5 + 0.5 - 0.5) / 3)
    assert (by_name["avg@2"].more, by_name["avg@2"].less) == ({"two": 2}, {"two": 1})
    assert by_name["pass@2"].differences["two"].mean == pytest.approx(1 / 3)
    gains = np.array([[1.0, 0.5, 0.5]]), np.array([[0.5, 0.0, 1.0]])
    assert by_name["avg@2"].differences["two"] == statistics.difference(*gains, pair_runs=False)
    assert "on 3 tasks of 4" in found.pairing
    assert any("3 tasks are few" in note for note in found.notes)


def test_tasks_that_share_only_their_id_are_no_pairs(tmp_path):
    folder(tmp_path / "one", ONE)
    folder(tmp_path / "two", {"a": [1.0, 1.0]}, question="another question")
    paths = [tmp_path / "one", tmp_path / "two"]
    with pytest.raises(
        DataError, match=r"share no task \(all 1 ids in common ask something else, such as a\).*--unpaired"
    ):
        command.compare(paths)
    found = command.compare(paths, unpaired=True)
    assert found.pairing.startswith("Unpaired")
    assert any("1 tasks share an id but not their prompt" in note for note in found.notes)
    pass_2 = found.metrics[-1]
    assert (pass_2.name, pass_2.differences["two"].mean) == ("pass@2", pytest.approx(1 - 2 / 3))


def test_runs_of_one_configuration_are_one_arm(tmp_path):
    for seed in (0, 1):
        folder(tmp_path / f"old-{seed}", {"a": [0.0], "b": [float(seed)]}, seed=seed)
        folder(tmp_path / f"new-{seed}", {"a": [1.0], "b": [float(seed)]}, seed=seed, objective={"clip": 0.3})
    paths = [tmp_path / name for name in ("old-0", "old-1", "new-1", "new-0")]
    found = command.compare(paths, by=["seed"])
    assert [[run.name for run in arm.runs] for arm in found.arms] == [["old-0", "old-1"], ["new-1", "new-0"]]
    avg = found.metrics[0]
    assert avg.arms["old-0 and 1 more"].mean == 0.25
    # Seeds pair although they are listed in another order: only the tasks vary, by 1 and 0.
    assert avg.differences["new-1 and 1 more"] == (0.5, pytest.approx(0.0), pytest.approx(1.0), 2)
    assert len(command.compare(paths).arms) == 4
    with pytest.raises(ConfigError, match="--by sed: no run has that key; did you mean 'seed'"):
        command.compare(paths, by=["sed"])


def test_what_differs_is_listed_with_its_origin(tmp_path):
    folder(tmp_path / "one", ONE, trainer={"lr": 1e-5, "note": "a  # b"})
    other = folder(tmp_path / "two", ONE, trainer={"lr": 3e-5, "note": "a  # b"}, extra=None, ended=False)
    other.note(versions={"torch": "0"}, git={"commit": "c", "dirty": True}, trained_on={"tasks": 1, "fingerprint": "x"})
    found = command.compare([tmp_path / "one", tmp_path / "two"])
    assert [row.key for row in found.configuration] == ["trainer.lr"]
    assert found.configuration[0].values == ["1e-05", "3e-05"]
    assert found.configuration[0].origins == ["command line", "command line"]
    assert {"git.commit", "versions.torch"} <= {row.key for row in found.code}
    assert {row.key for row in found.data} == {"trained_on.tasks", "trained_on.fingerprint"}
    told = " ".join(found.notes)
    for part in ("two ran with changes", "different commits", "trained on different data", "two has not ended"):
        assert part in told, part


def test_origins_are_read_from_the_comments():
    text = "a: 1  # one\nb:\n  c: '# x  # y'  # two\n  d: [1, 2]\ne: {}  # three\n"
    assert runs.origins(text) == {"a": "one", "b.c": "two", "e": "three"}


def test_compute_is_matched_by_tokens(tmp_path):
    folder(tmp_path / "short", ONE, steps=[(10, 0.1), (10, 0.2), (10, 0.6)])
    folder(tmp_path / "long", ONE, steps=[(20, 0.5), (20, 0.9)])
    found = command.compare([tmp_path / "short", tmp_path / "long"])
    assert [run.tokens for run in found.runs] == [{1: 10, 2: 20, 3: 30}, {1: 20, 2: 40}]
    assert found.tokens == 30
    assert [(one.at_step, one.metrics["reward"]) for one in found.reached] == [(3, pytest.approx(0.3)), (1, 0.5)]
    main, more = compute.charts(found.runs)
    assert [chart.title for chart in main] == ["reward over steps", "reward over tokens"]
    assert [chart.title for chart in more] == ["odd over steps"]


def test_tokens_that_were_taught_are_means_of_the_steps_between_records(tmp_path):
    records = [{"step": 2, "tokens": 5.0}, {"step": 4, "tokens": 7.0}, {"step": 4, "train_runtime": 1.0}]
    assert runs.tokens_by_step(tmp_path, records) == {2: 10, 4: 24}
    assert runs.tokens_by_step(tmp_path, [{"step": 1, "loss": 1.0}]) == {}


def test_the_page_is_safe_and_asks_nobody_for_anything(tmp_path):
    attack = "<script>alert('x')</script>"
    folder(tmp_path / "one", ONE, steps=[(10, 0.1), (10, 0.2)], objective={"clip": attack})
    folder(tmp_path / "two", TWO, steps=[(10, 0.3), (10, 0.2)])
    html = page.render(command.compare([tmp_path / "one", tmp_path / "two"]))
    tags = Tags()
    tags.feed(html)
    assert attack not in html and attack in tags.text
    for tag, attributes in tags.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "img")
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    assert not re.search(r"url\((?!['\"]?#)|@import", html)
    assert "--paper" in html and html.count("<svg") == 3
    for part in ("Paired by task, on 3 tasks of 4", "recipes/objective/x.yaml", "Matched compute: after 20 tokens"):
        assert part in re.sub(r"\s+", " ", tags.text), part


def test_json_and_the_table_hold_the_same_numbers(tmp_path, capsys):
    folder(tmp_path / "one", ONE)
    folder(tmp_path / "two", TWO)
    paths, out = [tmp_path / "one", tmp_path / "two"], tmp_path / "pages" / "c.html"
    command.run(paths, ks=[2], out=out, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert [metric["name"] for metric in found["metrics"]] == ["avg@2", "pass@2"]
    bounds = found["metrics"][0]["differences"]["two"]
    command.run(paths, ks=[2], out=out)
    assert f"{bounds['mean']:.3f} [{bounds['low']:.3f}, {bounds['high']:.3f}]" in capsys.readouterr().out
    assert out.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"at": "later"}, "--at later is no measurement"),
        ({"score": "rigth"}, "did you mean 'right'"),
        ({"ks": [0]}, "it starts at 1"),
        ({"threshold": float("nan")}, "--threshold nan"),
        ({"ks": [3]}, "--k 3 is more than the 2 scored"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, change, words):
    folder(tmp_path / "one", ONE)
    folder(tmp_path / "two", TWO)
    with pytest.raises(ConfigError, match=words):
        command.compare([tmp_path / "one", tmp_path / "two"], **change)


def test_folders_that_are_no_two_runs_are_refused_together(tmp_path):
    folder(tmp_path / "one", ONE)
    (tmp_path / "pipe").mkdir()
    (tmp_path / "pipe" / "config.yaml").write_text("")
    (tmp_path / "pipe" / "stages.json").write_text('{"first": {}, "second": {}}')
    with pytest.raises(ConfigError) as caught:
        runs.read([tmp_path / "one", tmp_path / "one", tmp_path, tmp_path / "x", tmp_path / "pipe"])
    told = "\n".join(caught.value.faults)
    for part in ("is named twice", "has no config.yaml", "no run folder at", f"its stages: {tmp_path}/pipe/first"):
        assert part in told, part
    assert runs.names([tmp_path / "a" / "x", tmp_path / "b" / "x"]) == ["a/x", "b/x"]


def test_runs_without_results_still_show_what_differs(tmp_path):
    folder(tmp_path / "one", {})
    folder(tmp_path / "two", TWO)
    found = command.compare([tmp_path / "one", tmp_path / "two"])
    assert not found.metrics and "one has no results per task" in " ".join(found.notes)


def test_a_measurement_replaces_the_one_of_its_name_only(tmp_path):
    run = folder(tmp_path / "r", {"a": [0.0]}, when="before")
    evaluations.save(run, [completion(task("a"), None), completion(task("a"), 1.0)], "after")
    evaluations.save(run, [completion(task("a"), 1.0, tokens=5)], "before")
    before, after = evaluations.load(run.path, "before"), evaluations.load(run.path, "after")
    assert before["a"]["scores"] == {"right": [1.0]} and before["a"]["tokens"] == [5]
    assert after["a"]["scores"] == {"right": [None, 1.0]}


def test_fingerprints_follow_content_and_not_place():
    from rlpost.types import Media, Task

    frames = np.zeros((2, 4, 4, 3), np.uint8)
    tasks = [Task("a", [], media=(Media("video", path=f"/{place}/x.mp4", start_s=1.0),)) for place in ("here", "there")]
    assert evaluations.seen(tasks[0]) == evaluations.seen(tasks[1])
    changed = [
        Task("a", [], media=(Media("video", path="/here/x.mp4", start_s=2.0),)),
        Task("a", [], media=(Media("video", frames=frames),)),
        Task("a", [], media=(Media("video", frames=frames + 1),)),
        Task("a", [{"role": "user", "content": "?"}]),
        Task("a", [], answer=3),
    ]
    assert len({evaluations.seen(one) for one in [*tasks, *changed]}) == 6
    plain = Task("a", [])
    more = [Task("a", [], demonstration="4"), Task("a", [], columns={"x": 1}), Task("b", []), plain]
    assert len({evaluations.fingerprint([one])["fingerprint"] for one in more}) == 4
    assert len({evaluations.seen(one) for one in more}) == 1
    odd = [Task("a", [], columns={"x": object()}) for _ in range(2)]
    assert evaluations.fingerprint(odd[:1]) == evaluations.fingerprint(odd[1:]) == evaluations.fingerprint([plain])
