"""Calls a Python function in the sandbox: how an environment runs its tools."""

import importlib.util
import json
import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlpost.sandbox.client import Job, ask, protections, python_job
from rlpost.sandbox.limits import Limits, Outcome, SandboxError

_CALLER = Path(__file__).with_name("caller.py")


def call(
    target: str,
    arguments: Mapping[str, Any],
    *,
    limits: Limits | None = None,
    packages: bool = False,
    reads: Collection[str] = (),
    allow: Collection[str] = (),
) -> Outcome:
    """Call `package.module:function` with JSON keyword arguments in a fresh cage; `Outcome.value` is what it returns.

    The function's own top-level package (or module) is readable, with `packages` also what is installed beside rlpost,
    and `reads` names more paths. A function that raises, or whose value is no JSON, is an Outcome with status `error`
    and its traceback in `stderr`. The value is as trustworthy as the function: one that executes what a model wrote
    inside its own process hands it the pen.

    Raises SandboxError for a target that does not exist, arguments that are no JSON, and as `run` does.
    """
    found = protections()
    found.require(allow)
    job = call_job(target, arguments, limits=limits, packages=packages, reads=reads)
    outcome, text = ask(job, namespaces=found.mode == "namespaces", result=True)
    if not outcome.ok:
        return outcome
    try:
        return replace(outcome, value=json.loads(text))
    except ValueError:
        return replace(outcome, status="error", detail=f"{target} ended its process without returning a value")


def call_job(
    target: str,
    arguments: Mapping[str, Any],
    *,
    limits: Limits | None = None,
    packages: bool = False,
    reads: Collection[str] = (),
) -> Job:
    """The call as a job."""
    module, colon, function = target.partition(":")
    if not (module and colon and function):
        raise SandboxError(f"tool {target!r}: write it as package.module:function")
    top = module.partition(".")[0]
    spec = None if top == "__main__" else importlib.util.find_spec(top)
    if spec is None:
        raise SandboxError(f"tool {target!r}: there is no package or module {top!r} to import")
    try:
        request = json.dumps(
            {"top": _place(spec), "module": module, "function": function, "arguments": dict(arguments)}
        )
    except (TypeError, ValueError) as error:
        raise SandboxError(f"tool {target!r}: its arguments are no JSON: {error}") from error
    job = python_job(_CALLER.read_text(), stdin=request, limits=limits, packages=packages)
    own = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.has_location and spec.origin else [])]
    return replace(job, reads=[*job.reads, *own, *reads])


def _place(spec: Any) -> dict[str, Any]:
    """Where the caller finds the top-level module; built-in ones it finds by itself."""
    if not spec.has_location or spec.name in sys.stdlib_module_names:
        return {}
    folders = [os.path.realpath(path) for path in spec.submodule_search_locations or ()]
    return {"name": spec.name, "origin": os.path.realpath(spec.origin), "folders": folders}
