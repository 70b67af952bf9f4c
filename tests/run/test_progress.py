"""Progress in a terminal and outside of one."""

import io

import pytest
from rich.console import Console

from rlpost.run import progress as module
from rlpost.run.progress import clock, progress


@pytest.fixture
def now(monkeypatch):
    ticks = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: ticks[0])
    return ticks


def test_plain_lines_come_every_few_seconds_and_at_the_end(now):
    stream = io.StringIO()
    with progress(40, "grpo", ["reward", "tok/s"], every_s=10, console=Console(file=stream, width=200)) as bar:
        for step in range(1, 41):
            now[0] += 3.0
            bar.update(step, {"reward": step / 100, "tok/s": 104.2})
    lines = stream.getvalue().splitlines()
    assert lines[0] == "grpo 1/40  reward 0.010  tok/s 104  0:03 gone  1:57 left"
    assert lines[1].startswith("grpo 5/40")  # 3 s, then the first update at least 10 s later: 15 s
    assert lines[-1] == "grpo 40/40  reward 0.400  tok/s 104  2:00 gone  0:00 left"
    assert len(lines) == 11  # steps 1, 5, 9, ..., 37 and 40


def test_a_resumed_run_counts_its_own_steps_for_the_time_left(now):
    stream = io.StringIO()
    with progress(40, "grpo", ["reward"], start=30, console=Console(file=stream, width=200)) as bar:
        now[0] = 4.0
        bar.update(32)
    assert stream.getvalue() == "grpo 32/40  reward –  0:04 gone  0:16 left\n"


def test_a_terminal_gets_a_bar_with_the_values(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    stream = io.StringIO()
    console = Console(file=stream, width=140, force_terminal=True)
    with progress(4, "sft", ["loss"], console=console) as bar:
        bar.say("held-out [1/2]")
        bar.update(4, {"loss": 1.25})
    text = stream.getvalue()
    assert "loss 1.250" in text
    assert "4/4" in text
    assert "held-out [1/2]" in text


def test_ci_gets_lines_even_in_a_terminal(monkeypatch):
    monkeypatch.setenv("CI", "true")
    stream = io.StringIO()
    with progress(1, "sft", ["loss"], console=Console(file=stream, width=140, force_terminal=True)) as bar:
        bar.update(1, {"loss": 1.25})
    assert stream.getvalue().startswith("sft 1/1  loss 1.250")


def test_other_ranks_are_silent(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    with progress(1, "sft", ["loss"]) as bar:
        bar.update(1, {"loss": 1.0})
    assert capsys.readouterr() == ("", "")


def test_clock():
    assert [clock(5), clock(245), clock(3723)] == ["0:05", "4:05", "1:02:03"]
