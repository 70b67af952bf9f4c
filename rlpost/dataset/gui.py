"""Small trajectories through screens told in words, generated: open an app, go to a page, write or switch something."""

import random
from collections.abc import Sequence
from typing import Any

from rlpost.environment.gui_action import written
from rlpost.errors import ConfigError
from rlpost.types import Task

APPS = {
    "Mail": ("Inbox", "Drafts", "Contacts"),
    "Clock": ("Alarms", "Timer", "World"),
    "Music": ("Albums", "Radio", "Search"),
    "Settings": ("Network", "Display", "Sound"),
    "Notes": ("Recent", "Lists", "Archive"),
}
WORDS = ("apple", "river", "seven", "cloud", "stone", "paper")
ASK = (
    "You see a screen as a list of elements with their boxes x1,y1,x2,y2. Reply with <think>why</think> and one of "
    '<action>{"action": "click", "coordinate": [x, y]}</action>, '
    '<action>{"action": "type", "text": "..."}</action>, '
    '<action>{"action": "scroll", "direction": "down"}</action>, <action>{"action": "finish"}</action>.'
)
ROW = 40  # height of an element in pixels


def gui(
    split: str, *, train: int = 128, validation: int = 0, test: int = 32, size: int = 320, seed: int = 0, ask: str = ASK
) -> Sequence[Task]:
    """Goals on made-up screens with the expert's steps in the column `steps`: {screen, action, box, thought}.

    A trajectory has three to five steps, namely a click on an app, a scroll where the page lies below, a click on the
    page, on some a word to write or a switch, and the end. Elements have other places on every screen. `size` is the
    width in pixels.

    Edge cases: splits are drawn from different seeds, so that goals may return on other screens.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    if split not in sizes:
        raise ConfigError(f"dataset=gui has no split {split!r}; choose one of {', '.join(sizes)}")
    return [_task(split, i, size, ask, random.Random(f"{seed}/{split}/{i}")) for i in range(sizes[split])]


def _task(split: str, number: int, size: int, ask: str, rng: random.Random) -> Task:
    app = rng.choice(list(APPS))
    page, word, kind = rng.choice(APPS[app]), rng.choice(WORDS), rng.choice(("open", "write", "switch"))
    goal = f"In {app} open {page}" + {"open": "", "write": f" and write {word}", "switch": " and switch it on"}[kind]
    steps = [_click("Home", list(APPS), app, size, rng)]
    if rng.random() < 0.3:
        others = [name for name in APPS[app] if name != page]
        steps.append(_plain(app, others, size, rng, f"{page} is below", action="scroll", direction="down"))
    steps.append(_click(app, list(APPS[app]), page, size, rng))
    if kind == "write":
        steps.append(_plain(page, ["Text field (active)"], size, rng, "the field is active", action="type", text=word))
    if kind == "switch":
        steps.append(_click(page, ["Switch (off)", "Back"], "Switch (off)", size, rng))
    steps.append(_plain(page, ["Done"], size, rng, "the goal is reached", action="finish"))
    return Task(
        id=f"gui-{split}-{number}",
        prompt=({"role": "user", "content": f"{ask}\nGoal: {goal}.\n{steps[0]['screen']}"},),
        columns={"steps": steps, "goal": goal, "split": split},
        demonstration=written(steps[0]["thought"], steps[0]["action"]),
        tags=(kind,),
    )


def _click(title: str, names: Sequence[str], target: str, size: int, rng: random.Random) -> dict[str, Any]:
    screen, boxes = _screen(title, names, size, rng)
    x1, y1, x2, y2 = boxes[target]
    point = [(x1 + x2) // 2, (y1 + y2) // 2]
    action = {"action": "click", "coordinate": point}
    return {"screen": screen, "action": action, "box": boxes[target], "thought": f"{target} is what I need"}


def _plain(
    title: str, names: Sequence[str], size: int, rng: random.Random, thought: str, **action: str
) -> dict[str, Any]:
    return {"screen": _screen(title, names, size, rng)[0], "action": action, "box": None, "thought": thought}


def _screen(title: str, names: Sequence[str], size: int, rng: random.Random) -> tuple[str, dict[str, list[int]]]:
    """The words of a screen and the box of each element, one below the other in a random order."""
    boxes = {}
    for row, name in enumerate(rng.sample(list(names), len(names))):
        left, width = rng.randrange(0, size // 4), rng.randrange(size // 4, size // 2)
        boxes[name] = [left, ROW * (row + 1), left + width, ROW * (row + 2) - 8]
    lines = [f"{name} {','.join(map(str, box))}" for name, box in boxes.items()]
    return "\n".join([f"Screen {title}", *lines]), boxes
