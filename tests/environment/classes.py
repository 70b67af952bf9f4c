"""Environment classes as a user writes them, for TRL and for rlpost."""

import os
import time


class Counter:
    """Keeps a number, and misbehaves on request."""

    def __init__(self):
        self.value = 100
        self.resets = 0

    def reset(self, start: int = 0, **columns) -> str | None:
        """Begin at a number."""
        self.value, self.resets = start, self.resets + 1
        return f" Start at {start}, asked {columns['prompt'][-1]['content']}."

    def add(self, amount: int) -> str:
        """Add to the number.

        Args:
            amount: How much.

        Returns:
            The new number.
        """
        self.value += amount
        return str(self.value)

    def boom(self, why: str) -> str:
        """Raise.

        Args:
            why: The message.
        """
        raise RuntimeError(why)

    def hang(self, seconds: int) -> str:
        """Sleep.

        Args:
            seconds: How long.
        """
        time.sleep(seconds)
        return "awake"

    def die(self) -> str:
        """End the process."""
        os._exit(3)

    def grow(self, megabytes: int) -> str:
        """Ask for memory.

        Args:
            megabytes: How much.
        """
        return str(len(bytearray(megabytes << 20)))

    def spell(self) -> list:
        """Content blocks."""
        return [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    def draw(self) -> list:
        """A picture."""
        return [{"type": "image", "image": "not text"}]

    async def later(self, amount: int) -> str:
        """Add, in a coroutine.

        Args:
            amount: How much.
        """
        self.value += amount
        return str(self.value)

    def get_reward(self) -> float:
        """The number itself."""
        return float(self.value)

    def _hidden(self) -> str:
        return "no tool"


class Untyped:
    """Its tool has no annotation."""

    def reset(self, **columns):
        """Nothing."""

    def tool(self, x):
        """Has no type.

        Args:
            x: Anything.
        """
        return x


class NoReset:
    """No environment."""


class StuckReset:
    """Its reset raises."""

    def reset(self, **columns):
        """Raise."""
        raise KeyError("start")
