"""The chat template's round trip, think tags that are there once, and whether the stop token was ever taught."""

import json
from dataclasses import replace

import torch

from rlpost.config import build, compose
from rlpost.export import verify, words
from rlpost.export.source import Source
from rlpost.export.verify import Sample
from rlpost.models import tiny
from rlpost.models.encode import Answer
from rlpost.types import Prompt, Task

TASK = Task("t", [{"role": "user", "content": "2 + 2 ?"}])


def grpo(tmp_path, rows):
    """A run of grpo that wrote these completions."""
    lines = [
        json.dumps({"step": step, "task": "t", "text": text, "stop": stop, **more}) for step, text, stop, more in rows
    ]
    (tmp_path / "rollouts.jsonl").write_text("\n".join(lines) + "\n")
    return Source(tmp_path, tmp_path, "", "grpo", {"rollout": {"max_tokens": 8}})


def asked():
    return [Sample(TASK, Prompt([1]))]


def said(bundle):
    """What the fresh process would say of the bundle's own template."""
    tokenizer = bundle.encoder.tokenizer
    text = tokenizer.apply_chat_template(list(TASK.prompt), tokenize=False, add_generation_prompt=True)
    return {"template": text, "template_ids": tokenizer(text, add_special_tokens=False)["input_ids"]}


def test_a_template_that_was_lost_or_changed_is_found():
    bundle = tiny.text()
    good = said(bundle)
    assert words.round_trip(asked(), [good], bundle).passed
    found = words.round_trip(asked(), [{**good, "template": "2 + 2 ?"}], bundle)
    assert not found.passed and "in training it was '<|im_start|>user" in found.said
    assert not words.round_trip(asked(), [{**good, "template_ids": [1]}], bundle).passed


def test_tokens_that_do_not_survive_as_text_are_found():
    bundle = tiny.text()
    good = said(bundle)
    bundle.encoder.tokenizer.decode = lambda ids: "".join(chr(97 + i % 26) for i in ids)
    found = words.round_trip(asked(), [good], bundle)
    assert not found.passed and "others when written and read" in found.said


def test_a_thought_is_opened_by_the_template_or_by_the_answer(tmp_path):
    bundle = tiny.text()
    thinking = grpo(tmp_path, [(1, "<think> a </think> 4", "eos", {})])
    assert words.think_tags(thinking, bundle, asked()).passed
    tokenizer = bundle.encoder.tokenizer
    plain = tokenizer.chat_template
    tokenizer.chat_template = plain.replace("assistant\n' }}", "assistant\n<think>' }}")
    found = words.think_tags(thinking, bundle, asked())
    assert not found.passed and "the tag is there twice" in found.said
    silent = grpo(tmp_path, [(1, "a </think> 4", "eos", {})])
    assert words.think_tags(silent, bundle, asked()).said == "the template opens it"
    tokenizer.chat_template = plain.replace("message['content']", "'<think>' + message['content']")
    assert "writes 2 <think>" in words.think_tags(silent, bundle, asked()).said


def test_rows_that_were_all_cut_never_taught_to_stop(tmp_path):
    bundle = tiny.text()
    # Only the last quarter of the steps counts, and only the policy's rows.
    rows = [(1, "4", "eos", {}), (4, "4", "length", {}), (4, "4", "eos", {"role": "expert"})]
    found = words.ends(grpo(tmp_path, rows), bundle)
    assert not found.passed and "cut at rollout.max_tokens=8" in found.said
    assert words.ends(grpo(tmp_path, [*rows, (4, "4", "eos", {})]), bundle).said.startswith("1 of 2 completions")


def test_labels_without_a_stop_token_are_found(monkeypatch):
    bundle = tiny.text()
    found = Source(None, None, "", "sft", {"dataset": None})  # type: ignore[arg-type]
    monkeypatch.setattr(words, "_taught", lambda _: [(TASK, "4"), (TASK, "44")])
    assert words.ends(found, bundle).passed
    bundle.encoder.completion = lambda task, text: Answer([5, 6], [True, True])  # type: ignore[method-assign]
    assert words.ends(found, bundle).said.startswith("0 of 2 answers")


def test_the_stop_probability_is_that_behind_the_answer():
    bundle = tiny.text()
    prompt, answer = bundle.encoder.prompt(TASK), bundle.encoder.completion(TASK, "4").tokens
    assert answer[-1] in bundle.encoder.stop_ids
    with torch.no_grad():
        last = bundle.model(torch.tensor([prompt.ids + answer[:-1]])).logits[0, -1]
    expected = float(last.softmax(-1)[bundle.encoder.stop_ids].sum())
    found = words.stop_probability(bundle.model, bundle, [words.Ending(prompt, answer)])
    assert found is not None and abs(found - expected) < 1e-7
    assert words.stop_probability(bundle.model, bundle, []) is None


def test_greedy_logits_are_of_the_answer():
    bundle = tiny.text()
    sample = Sample(TASK, bundle.encoder.prompt(TASK))
    verify.observe(bundle.model, bundle, [sample])
    assert sample.logits.shape == (len(sample.answer), len(bundle.encoder.tokenizer))
    assert sample.logits.argmax(-1).tolist() == sample.answer


def test_endings_of_sampled_rows_are_those_that_stopped(tmp_path):
    bundle = tiny.text()
    tree = compose("grpo", ["dataset.train_size=8"]).tree
    task = build(tree["dataset"])("train")[1]
    rows = [
        (1, "12", "eos", {"task": task.id}),
        (1, "13", "length", {"task": task.id}),
        (1, "14", "eos", {"task": "gone"}),
    ]
    found = words.endings(replace(grpo(tmp_path, rows), tree=tree), bundle)
    assert found == [words.Ending(bundle.encoder.prompt(task), bundle.encoder.completion(task, "12").tokens)]
