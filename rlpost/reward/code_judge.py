"""Runs a task's tests, inside the sandbox, on code that lives in another process. Started as a script.

Reads {code, tests, entry_point} from stdin; writes the number of tests, then one line per test, 1 or 0, to stdout.
Names that the tests leave open become stand-ins, whose calls travel to the program's process and come back as data.
"""

import ast
import builtins
import ctypes
import importlib
import json
import os
import subprocess
import sys
import types
from typing import Any

from rlpost.reward.code_exchange import Uncrossable, decode, encode

_PROGRAM = "rlpost.reward.code_program"
_DUMPABLE = 4
_MISSING = object()
_ROUTINES = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodDescriptorType)


class Violation(BaseException):
    """The program ended, answered nonsense, or gave an object where a test needs data: the test has failed."""


class Untestable(BaseException):
    """The tests hand over something that cannot leave this process: the task's fault, not the program's."""


class ProgramError(Exception):
    """An exception of the program that is none of Python's own."""


class Remote:
    """A function, class or object of the program. It can be called and looked into, and is never equal to anything.

    Operators are refused, also because they would show the program the other operand, often the expected value.
    """

    def __init__(self, program: "Program", reference: dict[str, Any]) -> None:
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_reference", reference)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self._program.apply(self._reference, args, keywords)

    def __getattr__(self, name: str) -> Any:
        return self._program.apply("getattr", (self, name))

    def __setattr__(self, name: str, value: Any) -> None:
        self._program.apply("setattr", (self, name, value))

    def __getitem__(self, key: Any) -> Any:
        return self._program.apply("getitem", (self, key))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._program.apply("setitem", (self, key, value))

    def __len__(self) -> int:
        return self._program.apply("len", (self,))

    def __str__(self) -> str:
        return self._program.apply("str", (self,))

    def __iter__(self) -> Any:
        return self._program.apply("iter", (self,))

    def __next__(self) -> Any:
        return self._program.apply("next", (self,))

    def _refuse(self, *_: Any) -> Any:
        self._program.violate("the program gave an object where the test compares data")

    __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = _refuse  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


class Program:
    """The process of the code; started again when it ended, for the next test."""

    def __init__(self, code: str) -> None:
        self._code = code
        self._process: subprocess.Popen[bytes] | None = None
        self._functions: list[Any] = []
        self.violated = False

    def start(self) -> None:
        """A fresh process, unless one is there."""
        self.violated = False
        if self._process is not None:
            return
        (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-S", "-B", "-m", _PROGRAM, str(their_in), str(their_out)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[their_in, their_out],
        )
        os.close(their_in)
        os.close(their_out)
        self._to, self._from = os.fdopen(our_out, "w"), os.fdopen(our_in)
        self._ask({"code": self._code})

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def violate(self, why: str) -> None:
        """Fail the running test, whatever it catches."""
        self.violated = True
        raise Violation(why)

    def find(self, name: str) -> Any:
        """What the program calls by this name; KeyError where it has none."""
        value = self._ask({"name": name})
        if value is _MISSING:
            raise KeyError(name)
        return Remote(self, {"g": name}) if isinstance(value, Remote) else value

    def apply(self, function: Any, args: tuple[Any, ...], keywords: dict[str, Any] | None = None) -> Any:
        """Call something of the program; changes to lists, dicts and sets among the arguments come back."""
        request = {
            "function": function,
            "args": [self._encode(item) for item in args],
            "keywords": {key: self._encode(item) for key, item in (keywords or {}).items()},
        }
        return self._ask(request, args)

    def _ask(self, request: dict[str, Any], args: tuple[Any, ...] = ()) -> Any:
        if self._process is None:
            self.violate("the program has ended")
        try:
            self._write(request)
            while "back" in (reply := json.loads(self._from.readline())):
                self._write(self._call_back(reply))
            if "raise" not in reply:
                value = decode(reply["value"], self._resolve)
                changed = [None if item is None else decode(item, self._resolve) for item in reply["after"]]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.stop()
            self.violate("the program ended or answered nonsense")
        if "raise" in reply:
            raise _exception(str(reply["raise"]), str(reply.get("text", "")))
        for old, new in zip(args, changed, strict=False):
            _change(old, new)
        return value

    def _write(self, message: dict[str, Any]) -> None:
        self._to.write(json.dumps(message) + "\n")
        self._to.flush()

    def _call_back(self, request: dict[str, Any]) -> dict[str, Any]:
        function = self._functions[int(request["back"])]
        try:
            args = [decode(item, self._resolve) for item in request["args"]]
            return {"value": self._encode(function(*args))}
        except Exception as error:
            return {"raise": f"{type(error).__name__}: {error}"}

    def _encode(self, value: Any) -> Any:
        try:
            return encode(value, self._refer)
        except Uncrossable as error:
            raise Untestable(str(error)) from error

    def _refer(self, value: Any) -> dict[str, Any]:
        if isinstance(value, Remote):
            return value._reference
        if isinstance(value, _ROUTINES):
            self._functions.append(value)
            return {"back": len(self._functions) - 1}
        raise Uncrossable(
            f"the tests hand a {type(value).__name__} to the program; only data and functions can go there"
        )

    def _resolve(self, data: dict[str, Any]) -> Any:
        if data == {"missing": 1}:
            return _MISSING
        if set(data) == {"h"}:
            return Remote(self, data)
        raise ValueError("an unknown reference")


def _exception(name: str, text: str) -> Exception:
    kind = getattr(builtins, name, None)
    known = isinstance(kind, type) and issubclass(kind, Exception)
    try:
        return kind(text) if known else ProgramError(f"{name}: {text}")  # type: ignore[misc]
    except TypeError:  # a few, such as UnicodeDecodeError, take other arguments
        return ProgramError(f"{name}: {text}")


def _change(old: Any, new: Any) -> None:
    """Give a container of the tests the content that the program left in it."""
    if type(old) is not type(new) or new == old:
        return
    if isinstance(old, list | bytearray):
        old[:] = new
    elif isinstance(old, dict | set):
        old.clear()
        old.update(new)


def split(text: str, entry_point: str | None) -> list[tuple[ast.stmt, bool]]:
    """The statements of the tests in order, and whether each counts as a test.

    A statement counts that holds an assert or calls a function of the tests that holds one. Without any, `check` is
    called with the entry point, and else functions named test... are called. Untestable where nothing counts.
    """
    body = ast.parse(text).body
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef) and _asserts(node)}
    rows = [(node, _counts(node, set(functions))) for node in body]
    if not any(counts for _, counts in rows):
        calls = [f"check({entry_point})"] if "check" in functions and entry_point else []
        calls = calls or [
            f"{name}()" for name, node in functions.items() if name.startswith("test") and not node.args.args
        ]
        rows += [(ast.parse(call).body[0], True) for call in calls]
    if not any(counts for _, counts in rows):
        raise Untestable("the tests hold no assert that would run")
    return rows


def _asserts(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.Assert) for inner in ast.walk(node))


def _counts(node: ast.stmt, functions: set[str]) -> bool:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return False
    called = {
        inner.func.id for inner in ast.walk(node) if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name)
    }
    return _asserts(node) or bool(called & functions)


def open_names(rows: list[tuple[ast.stmt, bool]], entry_point: str | None) -> tuple[set[str], set[str]]:
    """Names for the program to fill, and modules of the standard library that the tests use without importing them.

    Python's own names and modules are never the program's: a program that redefines `abs` or `math` must not judge
    itself. The entry point always is.
    """
    nodes = [inner for statement, _ in rows for inner in ast.walk(statement)]
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    bases = {node.value.id for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}
    modules = (used & bases & sys.stdlib_module_names) - {entry_point}
    return {name for name in used - modules if not hasattr(builtins, name) or name == entry_point}, modules


def judge(request: dict[str, Any], verdict: int) -> None:
    """Run the tests one after the other. A statement in between that fails takes all later tests with it."""
    entry_point = request["entry_point"]
    rows = split(request["tests"], entry_point)
    _line(verdict, str(sum(counts for _, counts in rows)))
    program = Program(request["code"])
    names: dict[str, Any] = {"__name__": "tests"}
    wanted, modules = open_names(rows, entry_point)
    names |= {name: importlib.import_module(name) for name in modules}
    if not _passes(program, lambda: _fill(program, names, wanted)):
        return
    for statement, counts in rows:
        code = compile(ast.Module([statement], []), "tests.py", "exec")
        passed = _passes(program, lambda code=code: exec(code, names))
        if counts:
            _line(verdict, str(int(passed)))
        elif not passed and isinstance(statement, ast.Import | ast.ImportFrom):
            raise Untestable(f"the tests cannot do: {ast.unparse(statement)}")
        elif not passed:
            return
    program.stop()


def _fill(program: Program, names: dict[str, Any], wanted: set[str]) -> None:
    for name in sorted(wanted):
        try:
            names[name] = program.find(name)
        except KeyError:
            continue


def _passes(program: Program, work: Any) -> bool:
    try:
        program.start()
        work()
    except Untestable:
        raise
    except BaseException:  # whatever ends a test other than its last line is a failure
        return False
    return not program.violated


def _line(handle: int, text: str) -> None:
    os.write(handle, text.encode() + b"\n")


def main() -> None:
    """Hide from the program first: same user, same sandbox."""
    if ctypes.CDLL(None).prctl(_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError("the judge cannot hide its memory from the program")
    sys.path[:] = [path for path in sys.path if path not in ("", os.path.dirname(os.path.abspath(__file__)))]
    request = json.load(sys.stdin)
    verdict, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        judge(request, verdict)
    except (Untestable, SyntaxError) as error:
        _line(verdict, f"untestable {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
