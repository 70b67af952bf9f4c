"""A listener's reward: what is taken out of the thoughts, what the listener is asked, and how its word is scored."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rlpost.dataset.image_pairs import image_pairs
from rlpost.errors import ConfigError, DataError, RewardError
from rlpost.metric.listener import disagreement
from rlpost.models.scorer.local import Local
from rlpost.models.scorer.stand_in import StandIn
from rlpost.models.tiny_video import video_tiny
from rlpost.reward.format import matches
from rlpost.reward.listener import answered, choice, listener, stripped
from rlpost.types import Media
from tests.reward.rows import rollout

PICTURES = tuple(Media("image", frames=np.full((56, 56, 3), n, np.uint8)) for n in (10, 200))


class Stub:
    """Believes in A to the degree that the thoughts praise the first image; remembers what it was asked."""

    def __init__(self, belief=lambda begun: 0.9 if "good" in begun else 0.2):
        self.belief, self.asked = belief, []

    def choice_probs(self, prompts, choices, *, media, begun):
        self.asked += list(zip(prompts, choices, media, begun, strict=True))
        return [[self.belief(text), 1 - self.belief(text)] for text in begun]


def row(text, gold="A", choices=("A", "B"), media=PICTURES):
    found = rollout(text, gold, question="Which image?", choices=list(choices))
    return replace(found, task=replace(found.task, media=media))


def text(thought, answer="A"):
    return f"<think>{thought}</think>\n<answer>{answer}</answer>"


def heard(rows, stub=None, **knobs):
    return listener(rows, {"listener": stub or Stub()}, **knobs)


@pytest.mark.parametrize(
    ("thought", "left"),
    [
        ("The first is sharp. So the answer is A.", "The first is sharp. "),
        (
            "The first is sharp. Therefore I choose A because of that. It has depth.",
            "The first is sharp.  It has depth.",
        ),
        ("the first is red the second is blue so A ", "the first is red the second is blue "),
        ("It is sharp.\nB", "It is sharp."),
        ("It is sharp. \\boxed{A}", "It is sharp. "),
        ("In A the sky is blue. A is so much sharper than B.", "In A the sky is blue. A is "),
        ("So a cat is there. So it goes.", "So a cat is there. So it goes."),
        ("My choice: the answer would be B!", ""),
        ("", ""),
    ],
)
def test_what_states_the_choice_is_taken_out(thought, left):
    assert stripped(thought, ["A", "B"]) == left


def test_what_the_listener_is_asked():
    """The task's own images and question, the reasoner's own spacing, and an answer that ends before the choice."""
    stub = Stub()
    heard([row("<think> It is good. So A. </think> <answer> B </answer>")], stub)
    [(prompt, choices, media, begun)] = stub.asked
    assert prompt == ({"role": "user", "content": "Which image?"},) and media == PICTURES
    assert begun == "<think> It is good.  </think> <answer>" and choices == [" A", " B"]


def test_the_probability_of_the_right_choice_is_the_score():
    rows = [row(text("good")), row(text("bad")), row(text("good", "B")), row(text("good"), gold="B")]
    assert heard(rows) == pytest.approx([0.9, 0.2, 0.9, 0.1])
    assert choice(rows) == [1.0, 1.0, 0.0, 0.0]
    assert [r.info["listener_choice"] for r in rows] == ["A", "B", "A", "A"]
    assert rows[3].info["listener_right"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    "broken",
    ["", "A", "<answer>A</answer>", "<think>good</think>A", "<answer>A</answer><think>good</think>",
     "<think>good</think><answer>A</answer><answer>A</answer>", "<think><think>good</think></think><answer>A</answer>",
     "good <think>x</think><answer>A</answer>", "<think>good</think><answer></answer>", "Which image?"],
)  # fmt: skip
def test_without_the_form_there_is_neither_accuracy_nor_a_listener(broken):
    stub = Stub()
    assert heard([row(broken)], stub) == choice([row(broken)]) == matches([row(broken)]) == [0.0]
    assert stub.asked == [] and answered(broken) is None


@pytest.mark.parametrize(
    "good", ["<think></think><answer> A </answer>", text("x\ny"), "  " + text("good", "no choice")]
)
def test_the_form_is_that_of_reward_format(good):
    assert matches([row(good)]) == [1.0] and answered(good) is not None


def test_both_orders_exchange_images_and_choices():
    """P(A) is 0.9 after thoughts that praise A. Swapped they praise B and P(A) is 0.2: (0.9 + 1 - 0.2) / 2."""
    stub = Stub(lambda begun: 0.9 if "A looks" in begun else 0.2)
    assert heard([row(text("A looks better than B"))], stub, both_orders=True) == pytest.approx([0.85])
    straight, swapped = stub.asked
    assert straight[2] == PICTURES and swapped[2] == PICTURES[::-1]
    assert swapped[3] == "<think>B looks better than A</think>\n<answer>" and swapped[1] == ["A", "B"]
    with pytest.raises(ConfigError, match="has 1 and 2"):
        heard([row(text("x"), media=PICTURES[:1])], both_orders=True)


def test_tasks_that_do_not_fit_are_said():
    without = row(text("good"))
    assert heard([replace(without, task=replace(without.task, answer=None))]) == [None]
    with pytest.raises(DataError, match="column 'choices', with the answer 'C' among them"):
        heard([row(text("good"), gold="C")])
    with pytest.raises(DataError, match="column 'options'"):
        heard([row(text("good"))], column="options")
    with pytest.raises(ConfigError, match=r"says='\(' is no regular expression"):
        heard([row(text("good"))], says="(")


def test_disagreement_of_all_and_of_the_right_ones():
    rows = [row(text("good")), row(text("bad")), row(text("bad", "B")), row(text("good", "neither")), row("no form")]
    heard(rows)
    # The listener says A B B A: it agrees with the first and the third; of the two right ones (A) it doubts one.
    assert disagreement(rows) == {"disagreement": 2 / 4, "disagreement_of_right": 1 / 2}
    with pytest.raises(RewardError, match="needs reward="):
        disagreement(rows[4:])


# --- a real vision-language listener ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def eyes():
    return video_tiny(seed=1, init_std=0.2)


def demonstrated(n):
    found = []
    for task in image_pairs("train", train=n):
        one = rollout(task.demonstration, task.answer)
        found.append(replace(one, task=task))
    return found


def test_a_local_listener_sees_the_images_as_the_policy_does(eyes):
    """By hand: the logits behind prompt, images and the begun answer, at the tokens of A and B."""
    rows, encoder = demonstrated(3), eyes.encoder
    found = listener(rows, {"listener": Local(model=lambda: eyes, cache=False, batch_size=2)})
    for one, score in zip(rows, found, strict=True):
        prompt = encoder.prompt(one.task)
        begun = one.text.split(" so ")[0] + "  </think> <answer>"
        ids = [*prompt.ids, *encoder.tokenizer(begun, add_special_tokens=False)["input_ids"]]
        kinds = torch.tensor([[*prompt.kinds, *[0] * (len(ids) - len(prompt.ids))]]).int()
        with torch.no_grad():
            logits = eyes.model(input_ids=torch.tensor([ids]), mm_token_type_ids=kinds, **prompt.features).logits[0, -1]
        letters = encoder.tokenizer.convert_tokens_to_ids(["A", "B"])
        wanted = torch.softmax(logits[letters].double(), -1)["AB".index(one.task.answer)]
        assert score == pytest.approx(float(wanted), abs=2e-5)
    assert len({round(s, 4) for s in found}) == 3 and all(0 < s < 1 for s in found)


def test_images_matter_and_the_cache_tells_them_apart(eyes, tmp_path, monkeypatch):
    monkeypatch.setenv("RLPOST_CACHE", str(tmp_path))  # empty, whatever ran before
    [one] = demonstrated(1)
    scorer = Local(model=lambda: eyes)
    straight = listener([one], {"listener": scorer})
    turned = replace(one, task=replace(one.task, media=one.task.media[::-1]))
    assert listener([turned], {"listener": scorer}) != straight and scorer.stats()["choice_probs/misses"] == 2
    again = Local(model=lambda: eyes)
    assert listener([one], {"listener": again}) == straight and again.stats()["choice_probs/hits"] == 1


def test_the_stand_in_listens_too():
    rows = demonstrated(2)
    first, again = (listener(rows, {"listener": StandIn()}) for _ in range(2))
    assert first == again and len(set(first)) == 2 and all(0 < s < 1 for s in first)
    turned = [replace(r, task=replace(r.task, media=r.task.media[::-1])) for r in rows]
    assert listener(turned, {"listener": StandIn()}) != first
