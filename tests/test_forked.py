"""The fork server gives processes that are their own."""

import os
import signal
from pathlib import Path

from tests import forked

SAYS = """
import os, sys
print(sys.argv[1:], os.getcwd(), os.environ["WORD"], "torch" in sys.modules)
print("aside", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""


def script(place: Path, text: str) -> str:
    path = place / "it.py"
    path.write_text(text)
    return str(path)


def test_arguments_folder_environment_output_and_exit_code(tmp_path):
    done = forked.run(script(tmp_path, SAYS), "3", "b", cwd=tmp_path, env={"WORD": "w"})
    assert (done.returncode, done.stdout) == (3, f"['3', 'b'] {tmp_path} w True\n")
    assert done.stderr == "aside\n"


def test_a_kill_ends_it_and_no_other(tmp_path):
    path = script(tmp_path, "import sys, time\nprint(1, flush=True)\ntime.sleep(float(sys.argv[1]))")
    first = forked.start(path, "60", output=tmp_path / "a")
    other = forked.start(path, "0.5", output=tmp_path / "b")
    assert len({first.pid, other.pid, os.getpid()}) == 3
    first.kill()
    assert first.wait() == -signal.SIGKILL and other.wait() == 0


def test_an_error_is_a_traceback_and_exit_code_1(tmp_path):
    done = forked.run(script(tmp_path, "raise KeyError('lost')"))
    assert done.returncode == 1 and done.stderr.endswith("KeyError: 'lost'\n")


def test_ranks_find_each_other(tmp_path):
    text = (
        "import torch, torch.distributed as d\nd.init_process_group('gloo')\n"
        "x = torch.tensor(float(d.get_rank() + 1))\nd.all_reduce(x)\nprint(d.get_rank(), x.item())"
    )
    done = forked.run(script(tmp_path, text), ranks=2)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", "0 3.0", "1 3.0"]


def test_the_cli_runs_as_from_a_shell(tmp_path):
    done = forked.run("rlpost", "grpo", "sed=3", cwd=tmp_path)
    assert done.returncode == 2 and "unknown key 'sed'" in done.stderr
