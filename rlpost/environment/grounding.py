"""Look twice: the policy names a region of an image, is shown that region of the original, and answers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlpost import foreign
from rlpost.environment.protocol import Observation
from rlpost.errors import DataError
from rlpost.media.sample import smart_resize
from rlpost.models.encode import Encoder
from rlpost.rollout.asked import with_remark
from rlpost.types import Media, Stop, Task

BLOCK = re.compile(r"```[\w+-]*[ \t]*\n(.*?)```", re.DOTALL)
ASK = 'First give the key region as a JSON code block: [{"bbox_2d": [x1, y1, x2, y2], "label": "..."}]'
SHOWN = "This is the region that you asked for."
MISSING = "You gave no valid region, so this is the whole image again."
ANSWER = "Put the final answer in \\boxed{}."

Box = tuple[int, int, int, int]


class Grounding:
    """Two turns, always: a box in the resized image, then the answer with a crop of the original image.

    A box is valid where x1 < x2, y1 < y2, x1 and y1 are at least 0, x2 and y2 at most the size of the image that the
    model sees, both sides are longer than `min_side` of its pixels, and the longer is less than `max_aspect` times the
    shorter. Otherwise the second turn shows the whole image again. How large the model sees an image is the model's
    own setting (model.image_max_pixels).

    The first code block whose JSON is a list with an item {bbox_2d: four whole numbers, label: text} counts; what is
    said behind it is cut off. An utterance without an end gets one.
    """

    tools: Sequence[Mapping[str, Any]] = ()

    def __init__(
        self,
        *,
        min_side: int = 28,
        max_aspect: float = 100.0,
        ask: str = ASK,
        shown: str = SHOWN,
        missing: str = MISSING,
        answer: str = ANSWER,
    ):
        self.min_side, self.max_aspect = min_side, max_aspect
        self.ask, self.shown, self.missing, self.answer = ask, shown, missing, answer

    def reset(self, task: Task, encoder: Encoder) -> "Look":
        """The task with the request for a region. Raises DataError where it has not exactly one image."""
        if len(task.media) != 1 or task.media[0].kind != "image" or encoder.media is None:
            raise DataError(
                f"task {task.id}: grounding needs a vision model and one image, found {len(task.media)} media"
            )
        original = np.asarray(encoder.media.clip(task.media[0]).frames[0])
        return Look(with_remark(task, self.ask), self, _question(task), original, _seen(original, encoder.media))

    def valid(self, box: Box, width: int, height: int) -> bool:
        """Whether a box lies within the image as the model sees it and is large enough to look at."""
        x1, y1, x2, y2 = box
        inside = 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        short, long = sorted((x2 - x1, y2 - y1))
        return inside and short > self.min_side and long < self.max_aspect * short


@dataclass
class Look:
    """One image, looked at twice."""

    task: Task
    environment: Grounding
    question: str
    original: np.ndarray
    seen: tuple[int, int]  # width and height as the model sees the image
    info: dict[str, Any] = field(default_factory=dict)

    def step(self, said: str, stop: Stop) -> Observation:
        """After the first utterance a crop, or the image again; after the second nothing."""
        if "box_valid" in self.info:
            return Observation(until=len(said))
        box, end = region(said)
        good = box is not None and self.environment.valid(box, *self.seen)
        self.info["box_valid"] = float(good)
        picture, words = self.original, self.environment.missing
        if box is not None and good:
            x1, y1, x2, y2 = self.info["box"] = list(original_box(box, self.seen, self.original))
            picture, words = self.original[y1:y2, x1:x2], self.environment.shown
        text = f"{words}\n{self.question}\n{self.environment.answer}"
        message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
        shown = Media("image", frames=np.ascontiguousarray(picture)[None])
        return Observation([message], [shown], until=end if box is not None else len(said))

    def finish(self) -> None:
        """Nothing is held."""


def region(said: str) -> tuple[Box | None, int]:
    """The first box in an utterance, in pixels as the model sees the image, and where its code block ends."""
    for block in BLOCK.finditer(said):
        try:
            items = foreign.parsed(block.group(1))
        except ValueError:
            continue
        for item in items if isinstance(items, list) else []:
            if isinstance(item, dict) and isinstance(item.get("label"), str) and _is_box(item.get("bbox_2d")):
                x1, y1, x2, y2 = item["bbox_2d"]
                return (x1, y1, x2, y2), block.end()
    return None, len(said)


def original_box(box: Box, seen: tuple[int, int], original: np.ndarray) -> Box:
    """The box in pixels of the original image, truncated to whole ones; at least one pixel wide and high."""
    height, width = original.shape[:2]
    x1, x2 = (int(x * width / seen[0]) for x in (box[0], box[2]))
    y1, y2 = (int(y * height / seen[1]) for y in (box[1], box[3]))
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(type(side) is int for side in value)


def _seen(original: np.ndarray, media: Any) -> tuple[int, int]:
    height, width = smart_resize(
        *original.shape[:2],
        factor=media.frames.factor,
        min_pixels=media.image_min_pixels,
        max_pixels=media.image_max_pixels,
    )
    return width, height


def _question(task: Task) -> str:
    """The text of the last user message."""
    content = next((m["content"] for m in reversed(task.prompt) if m["role"] == "user"), "")
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content if "text" in part)
