"""Runs inside the sandbox, as a script: reads one call from stdin, writes its value as JSON to descriptor 3."""

import importlib
import importlib.util
import json
import os
import sys

RESULT_FD = 3


def main() -> None:
    os.set_inheritable(RESULT_FD, False)
    request = json.load(sys.stdin)
    top = request["top"]
    if top:
        folders = top["folders"] or None
        spec = importlib.util.spec_from_file_location(top["name"], top["origin"], submodule_search_locations=folders)
        assert spec is not None and spec.loader is not None
        sys.modules[top["name"]] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    function = getattr(importlib.import_module(request["module"]), request["function"])
    text = json.dumps(function(**request["arguments"]))
    with os.fdopen(RESULT_FD, "w") as result:
        result.write(text)


if __name__ == "__main__":
    main()
