"""The interface: promises refused or waived, runs side by side, a client that dies, and called functions."""

import os
import signal
import subprocess
import sys
import uuid

import pytest

from rlpost import sandbox
from rlpost.sandbox import Limits, Protections, SandboxError, client
from rlpost.sandbox.limits import PROTECTIONS
from tests.sandbox.cages import marked, wait_until


@pytest.fixture(autouse=True)
def needs_a_cage():
    if sandbox.protections().mode == "none":
        pytest.skip(str(sandbox.protections().why))


def test_a_program_and_what_it_reads():
    outcome = sandbox.run_python(
        "import sys, helper\nprint(helper.double(int(sys.stdin.read())), sys.argv[1:], open('d/a.txt').read())\n"
        "print('note', file=sys.stderr)",
        arguments=["x"],
        stdin="21",
        files={"helper.py": "def double(n): return 2 * n", "d/a.txt": "text"},
    )
    assert (outcome.status, outcome.exit_code, outcome.stdout) == ("ok", 0, "42 ['x'] text\n")
    assert outcome.stderr == "note\n" and outcome.ok and outcome.value is None
    assert 0 < outcome.seconds < 60 and 1 < outcome.peak_mb < 512


def test_commands():
    assert sandbox.run(["sh", "-c", "echo $HOME; cat; exit 3"], stdin="in").stdout.endswith("in")
    missing = sandbox.run(["no-such-command"])
    assert (missing.status, missing.exit_code) == ("error", 127) and "no-such-command" in missing.stderr


def test_packages_are_there_only_when_asked_for():
    code = "import pluggy; print(pluggy.__name__)"
    assert "ModuleNotFoundError" in sandbox.run_python(code).stderr
    assert sandbox.run_python(code, packages=True).stdout == "pluggy\n"


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/../../b", "", "."])
def test_files_stay_inside(name):
    with pytest.raises(SandboxError, match="relative path inside its folder"):
        sandbox.run_python("1", files={name: "x"})


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"memory_mb": -1}, {"cpu_seconds": 0.0}])
def test_limits_are_positive(limits):
    with pytest.raises(SandboxError, match="must be above 0"):
        Limits(**limits)


def test_many_run_side_by_side_in_order():
    jobs = [sandbox.python_job(f"import time; time.sleep({(7 - n) / 20}); print({n})") for n in range(8)]
    outcomes = sandbox.run_many(jobs, workers=4)
    assert [outcome.stdout for outcome in outcomes] == [f"{n}\n" for n in range(8)]
    assert sandbox.run_many([]) == []


def test_workers_bound_how_many_run():
    """Eight programs of half a second each, two at a time: their own clocks never show three at once."""
    code = "import time; start = time.monotonic(); time.sleep(0.5); print(start, time.monotonic())"
    spans = [
        tuple(map(float, outcome.stdout.split()))
        for outcome in sandbox.run_many([sandbox.python_job(code)] * 8, workers=2)
    ]
    assert max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) == 2


def test_a_missing_promise_is_refused_until_it_is_waived(monkeypatch):
    real = sandbox.protections()
    have = real.have - {"network", "writes"}
    weak = Protections(real.mode, frozenset(have), {"network": "no filter", "writes": "no Landlock"})
    monkeypatch.setattr(client, "protections", lambda: weak)
    with pytest.raises(SandboxError, match=r"network: no filter; writes: no Landlock.*allow=\[network, writes\]"):
        sandbox.run_python("1")
    with pytest.raises(SandboxError, match=r"allow=\[writes\]"):
        sandbox.run_python("1", allow=["network"])
    assert sandbox.run_python("1", allow=["network", "writes"]).ok
    with pytest.raises(SandboxError, match=r"known protections are network, writes, reads, processes"):
        sandbox.run_python("1", allow=["everything"])


def test_where_nothing_works_nothing_runs(monkeypatch):
    monkeypatch.setattr(client, "protections", lambda: Protections("none", frozenset(), {"all": "this is no Linux"}))
    with pytest.raises(SandboxError, match="this is no Linux"):
        sandbox.run_python("1", allow=PROTECTIONS)


def test_a_cage_that_cannot_be_built_is_an_error_and_no_outcome(monkeypatch):
    job = sandbox.python_job("1")
    header, body = client._request(job, False)
    header["limits"]["folder_mb"] = "many"
    monkeypatch.setattr(client, "_request", lambda *_: (header, body))
    with pytest.raises(SandboxError, match="cannot start a program"):
        client.ask(job, namespaces=sandbox.protections().mode == "namespaces")


def test_the_fork_server_is_started_again():
    assert sandbox.run_python("1").ok
    process = client._SERVER._process
    assert process is not None
    process.kill()
    process.wait()
    assert sandbox.run_python("print(2)").stdout == "2\n"


def test_programs_end_with_their_client():
    mark = f"attack-{uuid.uuid4()}"
    code = (
        "from rlpost import sandbox\n"
        f"sandbox.run_python('import time; time.sleep(300)', arguments=['{mark}'], limits=sandbox.Limits(seconds=300))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code.replace(mark, mark[:9] + "' + '" + mark[9:])])
    assert wait_until(lambda: marked(mark)), "the program did not start"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert wait_until(lambda: not marked(mark)), "the program outlived its client"


def test_a_forked_client_works():
    """Data loaders fork; both sides then ask the same fork server."""
    assert sandbox.run_python("1").ok
    child = os.fork()
    if child == 0:
        os._exit(0 if sandbox.run_python("print(3)").stdout == "3\n" else 1)
    assert sandbox.run_python("print(4)").stdout == "4\n"
    assert os.waitpid(child, 0)[1] == 0


TOOLS = "tests.sandbox.tools"


def test_a_tool_is_called_with_its_arguments():
    outcome = sandbox.call("textwrap:shorten", {"text": "a bb ccc", "width": 4, "placeholder": "."})
    assert outcome.ok and outcome.value == "a."
    outcome = sandbox.call("rlpost.words:near", {"word": "abd", "words": ["abc"]})
    assert outcome.ok and "abc" in outcome.value


def test_a_tool_of_a_project():
    outcome = sandbox.call(f"{TOOLS}:echo", {"text": "ab", "times": 2})
    assert (outcome.status, outcome.value, outcome.stdout) == ("ok", {"text": "abab"}, "working\n"), outcome.stderr


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("hang", "timeout", "longer than"),
        ("raise", "error", "no such city"),
        ("leave", "error", "without returning a value"),
        ("set", "error", "not JSON serializable"),
        ("large", "output", "printed more"),
    ],
)
def test_a_tool_that_fails_is_an_outcome(kind, status, words):
    limits = Limits(seconds=3.0 if kind == "hang" else 30.0)
    outcome = sandbox.call(f"{TOOLS}:odd", {"kind": kind}, limits=limits)
    assert outcome.status == status and outcome.value is None
    assert words in outcome.detail + outcome.stderr


@pytest.mark.parametrize(
    ("target", "arguments", "words"),
    [
        ("textwrap.shorten", {}, "package.module:function"),
        ("no_such_package:f", {}, "no package or module 'no_such_package'"),
        ("textwrap:shorten", {"text": {1}}, "no JSON"),
    ],
)
def test_a_call_that_cannot_be_made_is_an_error(target, arguments, words):
    with pytest.raises(SandboxError, match=words):
        sandbox.call(target, arguments)
