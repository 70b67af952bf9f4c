"""The process that holds a completion's code, inside the sandbox: answers the judge's calls with data.

The code can do here what it likes. All it gains is to answer something else: it never sees what answer is expected.
"""

import json
import os
import sys
from typing import Any

from rlpost.reward.code_exchange import decode, encode


class Host:
    """Runs the code and serves calls on what it defined."""

    def __init__(self, source: int, target: int) -> None:
        self._source, self._target = os.fdopen(source), os.fdopen(target, "w")
        self._names: dict[str, Any] = {"__name__": "solution", "__builtins__": __builtins__}
        self._kept: list[Any] = []

    def serve(self) -> None:
        """Until the judge closes its end."""
        code = json.loads(self._source.readline())["code"]
        self._answer(lambda: exec(compile(code, "solution.py", "exec"), self._names))
        for line in self._source:
            request = json.loads(line)
            self._answer(lambda request=request: self._do(request), request.get("args", ()))

    def _answer(self, work: Any, args: Any = ()) -> None:
        self._values: list[Any] = []
        try:
            value = encode(work(), self._refer)
            after = [
                encode(v, self._refer) if isinstance(v, list | dict | set | bytearray) else None for v in self._values
            ]
            self._send({"value": value, "after": after})
        except Exception as error:
            self._send({"raise": type(error).__name__, "text": str(error)[:500]})

    def _do(self, request: dict[str, Any]) -> Any:
        if "name" in request:
            return self._names.get(request["name"], _MISSING)
        args = [decode(item, self._resolve) for item in request["args"]]
        keywords = {key: decode(item, self._resolve) for key, item in request["keywords"].items()}
        self._values = args
        function = request["function"]
        return (_VERBS[function] if isinstance(function, str) else self._resolve(function))(*args, **keywords)

    def _refer(self, value: Any) -> dict[str, Any]:
        if value is _MISSING:
            return {"missing": 1}
        self._kept.append(value)
        return {"h": len(self._kept) - 1}

    def _resolve(self, data: dict[str, Any]) -> Any:
        if "g" in data:
            return self._names[data["g"]]
        if "back" in data:
            return lambda *args: self._call_back(data["back"], args)
        return self._kept[data["h"]]

    def _call_back(self, number: int, args: tuple[Any, ...]) -> Any:
        """A function of the tests, such as a key of a sort."""
        self._send({"back": number, "args": [encode(item, self._refer) for item in args]})
        reply = json.loads(self._source.readline())
        if "raise" in reply:
            raise RuntimeError(reply["raise"])
        return decode(reply["value"], self._resolve)

    def _send(self, message: dict[str, Any]) -> None:
        self._target.write(json.dumps(message) + "\n")
        self._target.flush()


def _set_item(target: Any, key: Any, value: Any) -> None:
    target[key] = value


_MISSING = object()
_VERBS = {
    "getattr": getattr,
    "setattr": setattr,
    "getitem": lambda target, key: target[key],
    "setitem": _set_item,
    "iter": iter,
    "next": next,
    "len": len,
    "str": str,
}


if __name__ == "__main__":
    Host(int(sys.argv[1]), int(sys.argv[2])).serve()
