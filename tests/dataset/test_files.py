"""Files in the formats that TRL documents, and what happens to rows and files that cannot be used."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from rlpost import ledger
from rlpost.dataset.files import files
from rlpost.errors import DataError

SKY = [{"role": "user", "content": "What color is the sky?"}]
BLUE = [{"role": "assistant", "content": "It is blue."}]
GREEN = [{"role": "assistant", "content": "It is green."}]


@pytest.fixture(autouse=True)
def fresh_ledger():
    ledger.reset()
    yield
    ledger.reset()


def write(folder, rows, name="data.jsonl"):
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def one(folder, row, **knobs):
    return files("train", path=write(folder, [row]), test_share=0.0, **knobs)[0]


def test_prompt_only_standard_becomes_a_user_message_and_keeps_other_columns(tmp_path):
    task = one(tmp_path, {"prompt": "2 + 2?", "solution": "4", "level": 3}, tags=["level"])
    assert task.prompt == ({"role": "user", "content": "2 + 2?"},)
    assert task.answer == "4" and task.tags == ("3",) and task.id == "train-0"
    assert task.columns == {"solution": "4", "level": 3}  # the answer stays: TRL reward functions ask for it by name


def test_prompt_only_conversational_with_a_system_message(tmp_path):
    task = one(tmp_path, {"prompt": SKY}, system="Be brief.")
    assert task.prompt == ({"role": "system", "content": "Be brief."}, SKY[0])


@pytest.mark.parametrize("completion", ["It is blue.", BLUE])
def test_prompt_completion(tmp_path, completion):
    task = one(tmp_path, {"prompt": SKY, "completion": completion})
    assert task.demonstration == "It is blue." and task.columns == {}


def test_language_modelling_messages_split_at_the_first_assistant_turn(tmp_path):
    more = [{"role": "user", "content": "And at night?"}, {"role": "assistant", "content": "Black."}]
    task = one(tmp_path, {"messages": SKY + BLUE + more})
    assert list(task.prompt) == SKY
    assert task.demonstration == BLUE + more


def test_sharegpt_names(tmp_path):
    task = one(tmp_path, {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]})
    assert task.prompt == ({"role": "user", "content": "Hi"},) and task.demonstration == "Hello"


def test_language_modelling_text_has_no_prompt(tmp_path):
    task = one(tmp_path, {"text": "The sky is blue."})
    assert task.prompt == () and task.demonstration == "The sky is blue."


def test_preference_explicit(tmp_path):
    task = one(tmp_path, {"prompt": SKY, "chosen": BLUE, "rejected": GREEN})
    assert list(task.prompt) == SKY
    assert task.columns == {"chosen": "It is blue.", "rejected": "It is green."}


def test_preference_implicit_conversational_takes_the_common_turns(tmp_path):
    task = one(tmp_path, {"chosen": SKY + BLUE, "rejected": SKY + GREEN})
    assert list(task.prompt) == SKY
    assert task.columns == {"chosen": "It is blue.", "rejected": "It is green."}


def test_preference_with_the_prompt_as_text_and_again_in_the_conversations(tmp_path):
    task = one(tmp_path, {"prompt": "What color is the sky?", "chosen": SKY + BLUE, "rejected": SKY + GREEN})
    assert list(task.prompt) == SKY and task.columns["chosen"] == "It is blue."


def test_preference_implicit_text_cuts_between_words(tmp_path):
    task = one(tmp_path, {"chosen": "The sky is blue.", "rejected": "The sky is bright."})
    assert task.prompt[0]["content"] == "The sky is"  # the letters "b" are common too
    assert task.columns == {"chosen": " blue.", "rejected": " bright."}


@pytest.mark.parametrize("label", [True, False])
def test_unpaired(tmp_path, label):
    task = one(tmp_path, {"prompt": "The sky is", "completion": " blue.", "label": label})
    assert task.demonstration == " blue." and task.columns["label"] is label


def test_columns_are_mapped_by_name(tmp_path):
    task = one(tmp_path, {"q": "2 + 2?", "a": 4}, prompt="q", answer="a")
    assert task.prompt[0]["content"] == "2 + 2?" and task.answer == 4


def test_images_are_read_and_get_placeholders(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (5, 3), (9, 8, 7)).save(tmp_path / "a.png")
    task = one(tmp_path, {"prompt": "What is this?", "images": ["a.png", "a.png"]})
    assert [medium.path for medium in task.media] == [str(tmp_path / "a.png")] * 2
    assert task.prompt[0]["content"] == [{"type": "image"}] * 2 + [{"type": "text", "text": "What is this?"}]
    data = {"bytes": (tmp_path / "a.png").read_bytes(), "path": None}
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"prompt": [{"role": "user", "content": "?"}], "image": data}]),
        tmp_path / "i.parquet",
    )
    task = files("train", path=str(tmp_path / "i.parquet"), test_share=0.0)[0]
    assert task.media[0].frames.shape == (3, 5, 3) and task.media[0].frames[0, 0].tolist() == [9, 8, 7]


@pytest.mark.parametrize("kind", ["json", "csv", "parquet"])
def test_other_formats_give_the_same_rows(tmp_path, kind):
    rows = [{"prompt": f"{i}?", "answer": str(i)} for i in range(7)]
    path = tmp_path / f"data.{kind}"
    if kind == "json":
        path.write_text(json.dumps({"data": rows}))
    elif kind == "csv":
        path.write_text("prompt,answer\n" + "".join(f"{r['prompt']},{r['answer']}\n" for r in rows))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    found = files("train", path=str(path), test_share=0.0)
    assert [(task.prompt[0]["content"], task.answer) for task in found] == [(f"{i}?", str(i)) for i in range(7)]


def test_one_file_is_split_by_prompt_without_overlap(tmp_path):
    path = write(tmp_path, [{"prompt": f"question {i % 20}", "answer": str(i)} for i in range(60)])
    train, test = files("train", path=path, test_share=0.2), files("test", path=path, test_share=0.2)
    asked = [{task.prompt[0]["content"] for task in side} for side in (train, test)]
    assert len(train) + len(test) == 60 and len(test) == 12
    assert not asked[0] & asked[1]


def test_a_folder_holds_one_file_per_split(tmp_path):
    write(tmp_path, [{"prompt": "a"}], "train-00000.jsonl")
    write(tmp_path, [{"prompt": "b"}], "train-00001.jsonl")
    write(tmp_path, [{"prompt": "c"}], "test.jsonl")
    assert [t.prompt[0]["content"] for t in files("train", path=str(tmp_path))] == ["a", "b"]
    assert [t.prompt[0]["content"] for t in files("test", path=str(tmp_path))] == ["c"]
    with pytest.raises(DataError, match=r"no file for 'validation'.*test\.jsonl, train-00000\.jsonl"):
        files("validation", path=str(tmp_path))


def test_unusable_rows_are_counted_with_their_lines(tmp_path):
    good = [{"prompt": f"{i}?"} for i in range(300)]
    rows = [*good[:2], "{broken", *good[2:], {"prompt": ""}, {"prompt": 5}, "[1]"]
    path = write(tmp_path, rows)
    assert len(files("train", path=path, max_bad=0.02, test_share=0.0)) == 300
    files("train", path=path, max_bad=0.02, test_share=0.0)  # a second reading counts nothing twice
    found = {row["cause"]: (row["count"], row["where"]) for row in ledger.current().rows()}
    assert found == {
        "the line is not JSON": (1, ["data.jsonl:3"]),
        "the prompt is empty": (1, ["data.jsonl:302"]),
        "column 'prompt' holds int, neither text nor messages": (1, ["data.jsonl:303"]),
        "the row is list, not an object with columns": (1, ["data.jsonl:304"]),
    }
    with pytest.raises(DataError, match=r"4 of 304 rows of .*data\.jsonl cannot be used.*0\.01"):
        files("train", path=path, test_share=0.0)


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ({"messages": SKY}, "no assistant turn"),
        ({"messages": BLUE}, "no user turn"),
        ({"messages": []}, "is empty"),
        ({"prompt": SKY, "completion": SKY}, "no assistant turn"),
        ({"prompt": "a", "completion": " "}, "is empty"),
        ({"prompt": "a", "completion": "b", "label": "yes"}, "not true or false"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "the same"),
        ({"prompt": [{"role": "user"}]}, "without role or content"),
        ({"prompt": "a", "image": "nowhere.png"}, "does not exist"),
    ],
)
def test_causes(tmp_path, row, cause):
    with pytest.raises(DataError, match="none can be used") as error:
        one(tmp_path, row)
    assert cause in str(error.value) and "data.jsonl:1" in str(error.value)


def test_faults_of_the_whole_file(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jsonl' does not exist \(dataset\.path\)"):
        files("train", path=str(tmp_path / "nowhere.jsonl"))
    with pytest.raises(DataError, match="empty"):
        files("train", path=write(tmp_path, []))
    with pytest.raises(DataError, match="empty"):
        files("train", path=write(tmp_path, ["", " "]))
    path = write(tmp_path, [{"question": "a", "reply": "b"}])
    with pytest.raises(DataError, match=r"no column 'solution' \(dataset\.answer\); it has question, reply"):
        files("train", path=path, answer="solution")
    with pytest.raises(DataError, match=r"no column for prompts; it has reply"):
        files("train", path=write(tmp_path, [{"reply": "b"}]))
    (tmp_path / "bad.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        files("train", path=str(tmp_path / "bad.parquet"))
    with pytest.raises(DataError, match=r"\.jsonl"):
        files("train", path=write(tmp_path, [{"prompt": "a"}], "data.txt"))
