"""Arithmetic: right answers, no test question among the training ones, the same rows every time."""

import pytest

from rlpost.dataset.arithmetic import _questions, arithmetic, arithmetic_pairs, arithmetic_sft
from rlpost.errors import ConfigError, DataError
from rlpost.reward.correct import correct
from tests.reward.rows import rollout


def asked(tasks):
    return [task.columns["expression"] for task in tasks]


def operands(tasks):
    return {tuple(sorted(expression.split(" + "))) for expression in asked(tasks)}


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_splits_share_no_question_not_even_in_another_order(seed):
    train, test = arithmetic("train", seed=seed), arithmetic("test", seed=seed)
    assert (len(train), len(test)) == (256, 100)
    assert len(set(asked(train))) == 256 and len(set(asked(test))) == 100
    assert not operands(train) & operands(test)


def test_validation_is_apart_from_both():
    sides = [
        arithmetic(split, train_size=100, validation_size=50, test_size=60) for split in ("train", "validation", "test")
    ]
    assert [len(side) for side in sides] == [100, 50, 60]
    assert len({expression for side in sides for expression in asked(side)}) == 210
    assert not operands(sides[2]) & (operands(sides[0]) | operands(sides[1]))


def test_answers_are_right_and_numbers_within_the_range():
    for task in arithmetic("train", train_size=64, terms=3, largest=12, operators=["+", "-"], seed=3):
        words = task.columns["expression"].split(" ")
        total = int(words[0])
        for sign, word in zip(words[1::2], words[2::2], strict=True):
            assert 0 <= int(word) <= 12
            total += int(word) if sign == "+" else -int(word)
        assert task.answer == str(total)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(tmp_path, monkeypatch):
    first = asked(arithmetic("train"))
    _questions.cache_clear()
    monkeypatch.setenv("RLPOST_CACHE", str(tmp_path))  # drawn again
    assert asked(arithmetic("train")) == first
    assert asked(arithmetic("train", seed=1)) != first


def test_questions_of_the_cache_are_those_that_were_drawn(tmp_path, monkeypatch):
    def asked():
        _questions.cache_clear()
        return [task.columns["question"] for task in arithmetic("train", train_size=16, test_size=4)]

    monkeypatch.setenv("RLPOST_CACHE", str(tmp_path))
    drawn = asked()
    (path,) = tmp_path.rglob("arithmetic-*.json")
    monkeypatch.setattr("rlpost.dataset.arithmetic._split", None)
    assert asked() == drawn
    monkeypatch.undo()
    monkeypatch.setenv("RLPOST_CACHE", str(tmp_path))
    path.write_text(path.read_text()[:40])
    assert asked() == drawn
    monkeypatch.setenv("RLPOST_CACHE", "/dev/null/nowhere")
    assert asked() == drawn
    _questions.cache_clear()


def test_prompt_and_tags():
    for task in arithmetic("test", wording="{expression}?"):
        left, right = task.columns["expression"].split(" + ")
        assert task.prompt == ({"role": "user", "content": f"{left} + {right}?"},)
        assert task.tags[0] == ("digits_2" if max(int(left), int(right)) > 9 else "digits_1")
        assert task.tags[1] == ("carry" if int(left) % 10 + int(right) % 10 >= 10 else "no_carry")


def test_a_small_range_gives_what_it_holds():
    train, test = arithmetic("train", largest=3), arithmetic("test", largest=3)
    assert len(train) + len(test) == 16  # 0..3 and 0..3
    with pytest.raises(DataError, match="no validation questions"):
        arithmetic("validation")


def test_demonstrations_are_the_answers():
    for task in arithmetic_sft("test"):
        assert task.demonstration == task.answer


def test_pairs_prefer_the_correct_bare_number():
    tasks = arithmetic_pairs("train")
    kinds = [task.tags[-1] for task in tasks]
    assert kinds[:3] == ["rejected_wrong", "rejected_wordy", "rejected_wrong"]
    for task in tasks:
        pair = [rollout(task.columns[side], task.answer) for side in ("chosen", "rejected")]
        assert correct(pair) == [1.0, 0.0]
    assert {task.tags[-1] for task in arithmetic_pairs("train", rejected="wrong")} == {"rejected_wrong"}


def test_wrong_knobs_are_refused():
    with pytest.raises(ConfigError, match="expression"):
        arithmetic("train", wording="what?")
    with pytest.raises(ConfigError, match="operators"):
        arithmetic("train", operators=["/"])
    with pytest.raises(DataError, match="train, validation, test"):
        arithmetic("dev")
