"""Datasets with one malformed row, or malformed as files."""

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.fuzz_inputs import GOOD, MARK, Case, Maker

USER = [{"role": "user", "content": "what is 2 + 3 ?"}]


def good(reader: str) -> list[dict[str, Any]]:
    """Sound rows of one format."""
    extra = {"sft": {"completion": "five"}, "pair": {"chosen": "five", "rejected": "six"}}.get(reader, {})
    return [{"prompt": f"what is {i} + {i} ?", **extra} for i in range(GOOD)]


def among(rng: random.Random, lines: list[bytes], odd: bytes) -> bytes:
    """The lines with the odd one somewhere between them."""
    at = rng.randrange(len(lines) + 1)
    return b"\n".join([*lines[:at], odd, *lines[at:]]) + b"\n"


def line(row: Any, **how: Any) -> bytes:
    return json.dumps(row, **how).encode()


def made(kind: str, variants: list[Callable[[random.Random], bytes]], reader: Any = "prompt", **facts: Any) -> Maker:
    """A JSONL file of sound rows and one of the variants."""

    def make(rng: random.Random, folder: Path) -> Case:
        path = folder / "data.jsonl"
        path.write_bytes(among(rng, [line(row) for row in good(reader)], rng.choice(variants)(rng)))
        return Case(kind, str(path), reader, **facts)

    return make


def plain(kind: str, *rows: Any, reader: Any = "prompt", **facts: Any) -> Maker:
    """The same for rows that JSON can hold."""
    return made(kind, [lambda rng, row=row: line(row) for row in rows], reader, **facts)


def whole(kind: str, *variants: tuple[str, Callable[[random.Random], bytes]], **facts: Any) -> Maker:
    """A file that is malformed as such: its name and its bytes."""

    def make(rng: random.Random, folder: Path) -> Case:
        name, content = rng.choice(variants)
        (folder / name).write_bytes(content(rng))
        return Case(kind, str(folder / name), whole=True, **facts)

    return make


def csv(kind: str, *odd: bytes, head: bytes = b"prompt,answer", **facts: Any) -> Maker:
    """A CSV file of sound rows and an odd line."""

    def make(rng: random.Random, folder: Path) -> Case:
        rows = [f"what is {i} + {i} ?,{2 * i}".encode() for i in range(GOOD)]
        (folder / "data.csv").write_bytes(head + b"\n" + among(rng, rows, rng.choice(odd)))
        return Case(kind, str(folder / "data.csv"), **facts)

    return make


def _cut(rng: random.Random) -> bytes:
    whole_line = line({"prompt": f"{MARK} {rng.random()}", "answer": "5"})
    return whole_line[: rng.randrange(1, len(whole_line) - 1)]


def _twice(rng: random.Random) -> bytes:
    key = rng.choice(["prompt", "answer"])
    return f'{{"prompt": "{MARK}", "answer": "5", "{key}": "another {MARK}"}}'.encode()


def _broken_utf8(rng: random.Random) -> bytes:
    return line({"prompt": MARK})[:-3] + bytes([rng.choice([0xFF, 0xC0, 0xED, 0x80])]) + b'"}'


def _parquet(rng: random.Random, damage: str) -> bytes:
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"prompt": [f"{MARK} {i}" for i in range(200)]}), stream)
    content = bytearray(stream.getvalue())
    if damage == "cut":
        return bytes(content[: rng.randrange(5, len(content) - 9)])
    if damage == "noise":
        return rng.randbytes(rng.randrange(1, 4000))
    if damage == "pages":  # the data, with a footer that is whole
        content[8:60] = rng.randbytes(52)
        return bytes(content)
    return b"PAR1" + rng.randbytes(64) + b"PAR1"


def _json(rng: random.Random) -> bytes:
    text = line([{"prompt": f"{MARK} {i}"} for i in range(5)])
    return rng.choice(
        [text[: rng.randrange(1, len(text) - 1)], b'"text"', b"7", b"null", b'{"rows": []}', b"[" * 90_000]
    )


def _nowhere(kind: str) -> Maker:
    def make(rng: random.Random, folder: Path) -> Case:
        names = ["none.jsonl", "x" * 300 + ".jsonl", "a/" * 3000, "nul\0.jsonl"]
        path = rng.choice([*(str(folder / name) for name in names), "~no-such-user/data.jsonl", ""])
        return Case(kind, path, whole=True)

    return make


def _folder(kind: str) -> Maker:
    def make(rng: random.Random, folder: Path) -> Case:
        place = folder / rng.choice(["data.jsonl", "train"])
        place.mkdir()
        if rng.random() < 0.5:
            (place / "README.md").write_text("no rows")
        return Case(kind, str(place), whole=True)

    return make


def _video_r1(kind: str) -> Maker:
    sound = {"problem": "count ?", "problem_type": "numerical", "data_type": "image", "path": "a.png", "solution": "2"}
    odd = [
        {"path": 5},
        {"path": "x" * 400},
        {"path": "nul\0"},
        {"path": ["a.png"]},
        {"problem": None},
        {"data_type": "x"},
        {"problem_type": ["numerical"]},
        {"problem_type": "multiple choice", "options": 4},
        {"problem_type": "multiple choice", "options": "A B"},
        {"path": "."},
        {"path": "~nobody-here/a.png"},
    ]

    def make(rng: random.Random, folder: Path) -> Case:
        from PIL import Image

        Image.new("RGB", (60, 60), (200, 10, 10)).save(folder / "a.png")
        rows: list[Any] = [{**sound, "problem": f"count {i} ?", "problem_id": i} for i in range(GOOD)]
        bad: Any = rng.choice([{**sound, "problem": MARK, **rng.choice(odd)}, [MARK], None])
        rows.insert(rng.randrange(GOOD + 1), bad)
        text = rng.choice([json.dumps(rows), "\n\n".join(json.dumps(row) for row in rows)])
        path = folder / ("data.json" if text[0] == "[" and "\n\n" not in text else "data.jsonl")
        path.write_text(text, encoding="utf-8")
        return Case(kind, str(path), "video_r1")

    return make


def _says(content: Any, role: Any = "user") -> dict[str, Any]:
    return {"prompt": [{"role": role, "content": content}], "note": MARK}


NAN = float("nan")
ALL: list[tuple[str, Callable[[str], Maker]]] = [
    ("row: cut in the middle", lambda k: made(k, [_cut])),
    ("row: NUL bytes", lambda k: made(k, [lambda r: b'{"prompt": "' + MARK.encode() + b'\0"}', lambda r: b"\0" * 40])),
    ("row: not an object", lambda k: plain(k, [MARK], MARK, 5, None, True, [{"prompt": MARK}])),
    (
        "row: nested wrongly",
        lambda k: plain(k, {"prompt": {"a": MARK}}, {"prompt": [[MARK]]}, {"data": {"prompt": MARK}}),
    ),
    ("row: nested too deep", lambda k: made(k, [lambda r: b'{"prompt": ' + b"[" * 90_000 + b"]" * 90_000 + b"}"])),
    ("row: null column", lambda k: plain(k, {"prompt": None, "note": MARK}, {"prompt": [None], "note": MARK})),
    (
        "row: a number as text",
        lambda k: plain(k, {"prompt": 17, "note": MARK}, {"prompt": NAN, "note": MARK}, _says(3.5)),
    ),
    (
        "row: a number of 5000 digits",
        lambda k: made(k, [lambda r: b'{"prompt": "' + MARK.encode() + b'", "answer": ' + b"9" * 5000 + b"}"]),
    ),
    (
        "row: empty prompt",
        lambda k: plain(
            k,
            *(
                {"prompt": p, "note": MARK}
                for p in ("", " \n", [], [{"role": "user", "content": " "}], [{"role": "user", "content": []}])
            ),
        ),
    ),
    ("row: no user turn", lambda k: plain(k, _says(MARK, "system"), _says(MARK, "assistant"))),
    (
        "row: unknown role",
        lambda k: plain(
            k, *({"prompt": [*USER, {"role": r, "content": MARK}]} for r in ("wizard", 5, ["user"], {"a": 1}, "USER"))
        ),
    ),
    (
        "row: message without role or content",
        lambda k: plain(
            k,
            {"prompt": [{"content": MARK}]},
            {"prompt": [{"role": "user"}], "note": MARK},
            {"prompt": [{}], "note": MARK},
        ),
    ),
    (
        "row: content of a wrong type",
        lambda k: plain(k, _says({"text": MARK}), _says([MARK]), _says([5]), _says([[MARK]]), {"prompt": [MARK]}),
    ),
    (
        "row: too long for the model",
        lambda k: made(k, [lambda r: line({"prompt": f"{MARK} " * r.choice([400, 20_000])})]),
    ),
    ("row: a key twice", lambda k: made(k, [_twice])),
    ("row: half a character", lambda k: made(k, [lambda r: b'{"prompt": "' + MARK.encode() + rng_half(r) + b'"}'])),
    ("row: another schema", lambda k: plain(k, {"question": MARK}, {"instruction": MARK, "output": "x"}, {})),
    (
        "sft: no answer",
        lambda k: plain(
            k,
            *(
                {"prompt": MARK, "completion": c}
                for c in ("", " ", [], 7, {"a": 1}, [{"role": "user", "content": "x"}])
            ),
            reader="sft",
        ),
    ),
    ("sft: too long for max_length", lambda k: plain(k, {"prompt": MARK, "completion": "very " * 2000}, reader="sft")),
    (
        "pair: one answer, or twice the same",
        lambda k: plain(
            k,
            *(
                {"prompt": MARK, **p}
                for p in (
                    {"chosen": "a"},
                    {"chosen": "a", "rejected": "a"},
                    {"chosen": "a", "rejected": None},
                    {"chosen": "a", "rejected": [{"role": "assistant", "content": "b"}]},
                    {"chosen": 1, "rejected": 2},
                )
            ),
            reader="pair",
        ),
    ),
    (
        "pair: margin that is no number",
        lambda k: plain(
            k,
            *(
                {"prompt": MARK, "chosen": "a", "rejected": "b", "margin": m}
                for m in ("wide", NAN, [1], float("inf"), {"a": 1})
            ),
            reader="pair",
        ),
    ),
    ("file: not UTF-8", lambda k: made(k, [_broken_utf8], whole=True)),
    (
        "file: UTF-16",
        lambda k: whole(
            k,
            ("data.jsonl", lambda r: f'{{"prompt": "{MARK}"}}'.encode("utf-16")),
            ("data.csv", lambda r: f"prompt\n{MARK}\n".encode("utf-16")),
        ),
    ),
    (
        "file: empty",
        lambda k: whole(
            k,
            *(
                (f"data.{s}", lambda r: r.choice([b"", b"\n \n", b"\xef\xbb\xbf"]))
                for s in ("jsonl", "json", "csv", "parquet")
            ),
        ),
    ),
    (
        "file: of no known kind",
        lambda k: whole(k, ("data.txt", lambda r: MARK.encode()), ("data", lambda r: MARK.encode())),
    ),
    ("file: JSON cut or of another shape", lambda k: whole(k, ("data.json", _json))),
    (
        "file: parquet cut, or noise",
        lambda k: whole(
            k, *(("data.parquet", lambda r, d=d: _parquet(r, d)) for d in ("cut", "noise", "pages", "footer"))
        ),
    ),
    ("file: a folder", _folder),
    ("file: not there", _nowhere),
    ("csv: ragged", lambda k: csv(k, f"{MARK}".encode(), f"{MARK},5,6".encode(), f"{MARK},5,6,7,8,9".encode())),
    ("csv: a field without end", lambda k: csv(k, f'"{MARK},5'.encode(), whole=True)),
    ("csv: a field too large", lambda k: csv(k, MARK.encode() + b"x" * 140_000 + b",5")),
    ("csv: a column twice", lambda k: csv(k, f"{MARK},5".encode(), head=b"prompt,prompt", whole=True)),
    ("video_r1: a wrong field", _video_r1),
    (
        "sound: byte order mark, blank lines, CRLF",
        lambda k: made(k, [lambda r: b"\r\n\n" + line({"prompt": MARK}) + b"\r\n"], sound=True),
    ),
    (
        "sound: other scripts, NUL as an escape",
        lambda k: plain(
            k, {"prompt": MARK + " \u2028 \u05d0\u0627\U0001f600"}, {"prompt": MARK + "\u0000"}, sound=True
        ),
    ),
]


def rng_half(rng: random.Random) -> bytes:
    """The escape of a lone surrogate."""
    return f"\\u{rng.randrange(0xD800, 0xE000):04x}".encode()


MAKERS: dict[str, Maker] = {kind: make(kind) for kind, make in ALL}
