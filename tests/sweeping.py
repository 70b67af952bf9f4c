"""`rlpost` as a script whose sweep is a fork of it: it has the imports that another start of Python would do again."""

import os
import runpy
import sys
import traceback
from types import SimpleNamespace

from rlpost import cli, multirun


def run(line: list[str], *, check: bool) -> SimpleNamespace:
    """As `subprocess.run` of `python -m <module> <arguments>`, which must not raise."""
    assert line[:2] == [sys.executable, "-m"] and not check
    sys.stdout.flush()
    child = os.fork()
    if child:
        return SimpleNamespace(returncode=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    code = 0
    try:
        sys.argv = line[2:]
        runpy.run_module(line[2], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    multirun.subprocess = SimpleNamespace(run=run)
    cli.main()
