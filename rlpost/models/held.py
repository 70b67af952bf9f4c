"""What was computed is kept, least recently used first to go, within a number of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

Value = TypeVar("Value")


class Held:
    """At most `limit` bytes: a value larger than that is given but not kept. Pickles and copies are empty."""

    def __init__(self, limit: int):
        self.limit, self.bytes = limit, 0
        self.values: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()
        self.lock = threading.RLock()

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return Held, (self.limit,)

    def get(self, key: Hashable, make: Callable[[], Value], size: Callable[[Value], int]) -> Value:
        """The value of `key`: the same object as before, or what `make` returns. `size` gives its bytes."""
        with self.lock:
            if key in self.values:
                self.values.move_to_end(key)
                return cast(Value, self.values[key][0])
            value = make()
            taken = size(value)
            if taken <= self.limit:
                self.values[key] = (value, taken)
                self.bytes += taken
            while self.bytes > self.limit:
                self.bytes -= self.values.popitem(last=False)[1][1]
            return value
