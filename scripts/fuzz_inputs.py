"""Malformed dataset rows and media files through rlpost's own loaders: each must be counted or answered by a sentence.

    python scripts/fuzz_inputs.py [--n 300] [--seed 0] [--only <part of a kind>]

prints one line per kind and exits with 1 where any input ended in a traceback or was used although it is bad. Every
case lies beside good rows, which must survive it. Kinds that are odd but sound must be used, with the right content.
"""

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rlpost import ledger
from rlpost.batches import Encoded, demonstrated, demonstration, pair, paired
from rlpost.dataset.files import files
from rlpost.dataset.video_r1 import video_r1
from rlpost.errors import RlpostError
from rlpost.media.sample import FrameSettings
from rlpost.models.encode import Encoder
from rlpost.models.tiny import byte_tokenizer
from rlpost.models.tiny_video import TEMPLATE
from rlpost.models.vision import QwenVision
from rlpost.types import Task
from rlpost.usable import Usable

CONTEXT = 4096
GOOD = 4  # sound rows beside each bad one
MARK = "the malformed one"
Verdict = Literal["counted", "stopped", "used", "SILENT", "LOST", "TRACEBACK"]
FAULTS = ("SILENT", "LOST", "TRACEBACK")


@dataclass
class Case:
    """A written dataset. `sound`: the odd row must be used; `check` looks at its frames."""

    kind: str
    path: str
    reader: Literal["prompt", "sft", "pair", "video_r1"] = "prompt"
    sound: bool = False
    whole: bool = False  # the fault is the file's, so its good rows need not survive
    check: Callable[[Any], bool] | None = None


@dataclass
class Told:
    """What became of a case: the verdict, and the cause, the sentence or the traceback."""

    case: Case
    verdict: Verdict
    text: str = ""


@dataclass
class Encoders:
    """One for text and one for media, shared by all cases; the media's has a worker that is ended at the end."""

    text: Encoder = field(default_factory=lambda: _with_template(byte_tokenizer(), None))
    media: Encoder = field(default_factory=lambda: _with_template(byte_tokenizer(_VISION), _vision()))

    def close(self) -> None:
        """End the decoding process."""
        assert isinstance(self.media.media, QwenVision)
        self.media.media.decoder.close()


_VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def _vision() -> QwenVision:
    small = FrameSettings(fps=4.0, max_frames=8, min_pixels=56 * 56, max_pixels=56 * 56)
    return QwenVision(frames=small, image_min_pixels=56 * 56, image_max_pixels=112 * 112, limit_s=10.0)


def _with_template(tokenizer: Any, media: QwenVision | None) -> Encoder:
    if media is not None:
        tokenizer.chat_template = TEMPLATE
    return Encoder(tokenizer, media)


def tried(case: Case, encoders: Encoders) -> Told:
    """Load a case and encode every task as a run would."""
    ledger.reset()
    try:
        tasks = _loaded(case)
        kept = _encoded(case, tasks, encoders)
    except RlpostError as error:
        sentence = str(error).strip()
        if not sentence or error.exit_code not in range(2, 10) or "Traceback" in sentence:
            return Told(case, "TRACEBACK", f"exit code {error.exit_code}: {sentence}")
        return Told(case, "LOST" if case.sound else "stopped", sentence)
    except Exception:
        return Told(case, "TRACEBACK", traceback.format_exc())
    marked = [task for task in kept if MARK in repr(task)]
    causes = "; ".join(row["cause"] for row in ledger.current().rows())
    if len(kept) - len(marked) < GOOD and not case.whole:
        return Told(case, "LOST", f"{len(kept)} tasks are left; {causes}")
    if case.sound:
        good = bool(marked) and (case.check is None or case.check(encoders.media.media.clip(marked[0].media[0]).frames))
        return Told(case, "used" if good else "LOST", causes)
    if marked:
        return Told(case, "SILENT", repr(marked[0])[:300])
    return Told(case, "counted" if ledger.current().count("drop") else "SILENT", causes)


def _loaded(case: Case) -> list[Task]:
    if case.reader == "video_r1":
        return video_r1("train", path=case.path, held_out=0.0, max_bad=0.5)
    return list(files("train", path=case.path, test_share=0.0, max_bad=0.5))


def _encoded(case: Case, tasks: list[Task], encoders: Encoders) -> list[Task]:
    encoder = encoders.media if any(task.media for task in tasks) else encoders.text
    if case.reader in ("prompt", "video_r1"):
        usable = Usable(len(tasks), 0.5, context=CONTEXT)
        return usable.left(tasks, [usable.fault(task, encoder, {}) for task in tasks])
    having, row = (demonstrated, demonstration) if case.reader == "sft" else (paired, pair)
    some = having(tasks)
    encoded = Encoded(some, partial(row, encoder), max_length=CONTEXT, max_bad=0.5)
    return [task for place, task in enumerate(some) if encoded.rows([place])]


Maker = Callable[[random.Random, Path], Case]


def cases(makers: dict[str, Maker], n: int, seed: int, folder: Path) -> Iterator[Case]:
    """`n` cases, the kinds in turn; each is drawn from a seed of its own and lies in a folder of its own."""
    names = list(makers)
    for i in range(n):
        name = names[i % len(names)]
        place = folder / f"{i:04d}"
        place.mkdir()
        yield makers[name](random.Random(f"{seed}/{i}"), place)


def main() -> int:
    """Print the table; 1 where any verdict is a fault."""
    from scripts.malformed import media, rows

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--show", action="store_true", help="print what each case was told")
    args = parser.parse_args()
    makers = {name: make for name, make in {**rows.MAKERS, **media.MAKERS}.items() if args.only in name}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    faults, encoders, begin = [], Encoders(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(makers, args.n, args.seed, Path(folder)):
            told = tried(case, encoders)
            found[case.kind][told.verdict] += 1
            if args.show:
                print(f"{told.verdict:9} {case.kind}: {told.text.strip().splitlines()[-1:] or ''}")
            if told.verdict in FAULTS:
                faults.append(told)
    encoders.close()
    print(table(found))
    for told in faults:
        print(f"\n{told.verdict}: {told.case.kind}\n{told.text}")
    total = sum(sum(one.values()) for one in found.values())
    print(f"{total} inputs of {len(found)} kinds in {time.monotonic() - begin:.1f} s, {len(faults)} faults")
    return 1 if faults else 0


def table(found: dict[str, Counter[str]]) -> str:
    """One line per kind: how many, and what became of them."""
    heads = ("counted", "stopped", "used", *FAULTS)
    width = max(map(len, found))
    lines = [f"{'kind':{width}} {'n':>4} " + " ".join(f"{head:>9}" for head in heads)]
    for kind, verdicts in [*found.items(), ("all", sum(found.values(), Counter()))]:
        cells = " ".join(f"{verdicts[head] or '':>9}" for head in heads)
        lines.append(f"{kind:{width}} {sum(verdicts.values()):4} {cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
