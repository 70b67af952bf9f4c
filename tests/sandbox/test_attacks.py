"""Programs that try to break out or to break the machine. Each must end as an outcome, with nothing changed outside.

Every attack runs in both kinds of cage where this user can have them. `test_ordinary_user.py` runs this file again as
a user without privileges, so it needs no fixture of the suite and nothing but pytest and the standard library.
"""

import glob
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sandbox.cages import SMALL, attack, why_not

SHORT = replace(SMALL, seconds=1.0)


@pytest.fixture(params=["namespaces", "filters"])
def mode(request):
    reason = why_not(request.param)
    if reason:
        pytest.skip(f"no cage by {request.param} here: {reason}")
    return request.param


@pytest.fixture
def outside():
    """A folder that every user may enter and change, so that permissions are not what stops an attack."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.fixture
def victim():
    """A process of the same user, outside."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    assert process.poll() is None, "the victim was killed"
    process.kill()
    process.wait()


def test_fork_bomb(mode):
    code = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    outcome = attack(mode, code)
    assert outcome.status == "processes" and outcome.exit_code is None


def test_thread_bomb(mode):
    code = (
        "import threading, time\nthreading.stack_size(65536)\n"
        "for _ in range(1000):\n    threading.Thread(target=time.sleep, args=(60,)).start()"
    )
    assert attack(mode, code, limits=SHORT).status in ("processes", "error", "timeout")


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(10**11)",
        "x = []\nwhile True: x.append(bytearray(10**6))",
        "x = 'a'\nwhile True: x += x",
    ],
)
def test_memory_bomb(mode, code):
    assert attack(mode, code).status == "memory"


def test_memory_bomb_that_swallows_the_error_stays_within_its_limit(mode):
    code = "x = []\nwhile True:\n    try: x.append(bytearray(10**6))\n    except MemoryError: pass"
    outcome = attack(mode, code, limits=SHORT)
    assert outcome.status == "timeout" and outcome.peak_mb <= SMALL.memory_mb


def test_memory_of_all_processes_counts_together(mode):
    code = (
        "import os, time\nfor _ in range(3):\n    if os.fork() == 0: break\n"
        "x = bytearray(b'x' * 90_000_000)\ntime.sleep(30)"
    )
    outcome = attack(mode, code)
    assert outcome.status == "memory" and outcome.exit_code is None


def test_shared_pages_count_once(mode):
    """Four processes share 90 MB that only the first wrote: far more than 200 MB if each page counted four times."""
    code = (
        "import os, time\nx = bytearray(b'x') * 90_000_000\nchildren = []\nfor _ in range(3):\n    child = os.fork()\n"
        "    if child == 0: time.sleep(0.5); os._exit(0)\n    children.append(child)\n"
        "for child in children: os.waitpid(child, 0)"
    )
    assert attack(mode, code).status == "ok"


WRITES = """
import ctypes, os, sys
target, folder = sys.argv[1:3]
libc = ctypes.CDLL(None)
tries = [
    lambda: open(target, "w").write("owned"), lambda: open(target, "a").write("owned"),
    lambda: os.truncate(target, 0), lambda: os.remove(target), lambda: os.rename(target, target + "2"),
    lambda: os.chmod(target, 0o777), lambda: os.utime(target, (1, 1)), lambda: os.link(target, "mine"),
    lambda: os.setxattr(target, "user.a", b"1"),
    lambda: open(folder + "/new", "w").write("owned"), lambda: os.mkdir(folder + "/d"),
    lambda: os.symlink("/", folder + "/s"), lambda: os.mkfifo(folder + "/f"),
    lambda: open("/usr/owned", "w"), lambda: open("/etc/owned", "w"), lambda: open(sys.prefix + "/owned", "w"),
    lambda: open(os.__file__, "a"), lambda: open("/proc/sys/kernel/core_pattern", "w").write("|/x"),
    lambda: open("/dev/shm/../../usr/owned", "w"),
]
done = []
for number, attempt in enumerate(tries):
    try:
        attempt()
        done.append(number)
    except OSError as error:
        pass
print(done)
"""


def test_writing_outside(mode, outside):
    target = outside / "file"
    target.write_text("mine")
    target.chmod(0o666)
    before = target.stat()
    outcome = attack(mode, WRITES, target, outside)
    assert outcome.ok and outcome.stdout == "[]\n"
    assert [path.name for path in outside.iterdir()] == ["file"] and target.read_text() == "mine"
    after = target.stat()
    assert (after.st_mode, after.st_mtime, after.st_nlink) == (before.st_mode, before.st_mtime, 1)


READS = """
import glob, os, sys
seen = b""
places = [sys.argv[1], "/proc/%s/environ" % sys.argv[2], "/proc/%s/root%s" % (sys.argv[2], sys.argv[1])]
places += glob.glob("/proc/*/environ") + glob.glob("/proc/*/cmdline") + glob.glob("/proc/*/fd/*")
places += ["/proc/%d/environ" % p for p in range(max(1, int(sys.argv[2]) - 50), int(sys.argv[2]) + 50)]
places += ["/etc/shadow", "/etc/ssh/ssh_host_rsa_key", "/root/.bash_history", os.path.expanduser("~/.ssh/id_rsa")]
for place in places:
    try:
        handle = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
        seen += os.read(handle, 100000)
    except OSError:
        pass
print(repr(seen + repr(dict(os.environ)).encode()))
print(sorted(os.environ))
"""


def test_reading_secrets(mode, outside):
    secret = outside / "token"
    secret.write_text("file-SECRET")
    secret.chmod(0o644)
    code = "import os; os.environ['X'] = 'env-SECRET'"
    holder = subprocess.Popen(
        [sys.executable, "-c", code + "; import time; time.sleep(60)"], env={**os.environ, "KEY": "env-SECRET"}
    )
    try:
        outcome = attack(mode, READS, secret, holder.pid)
    finally:
        holder.kill()
        holder.wait()
    assert outcome.ok and "SECRET" not in outcome.stdout
    assert outcome.stdout.splitlines()[-1] == "['HOME', 'LANG', 'OMP_NUM_THREADS', 'PATH', 'TMPDIR']"


def test_killing_others(mode, victim):
    code = (
        "import os, sys\n"
        "for pid, number in ((int(sys.argv[1]), 9), (int(sys.argv[2]), 9), (os.getppid(), 9), (1, 9), (-1, 9)):\n"
        "    try: os.kill(pid, number)\n    except OSError as error: print(type(error).__name__)\nprint('end')"
    )
    outcome = attack(mode, code, victim.pid, os.getpid())
    assert outcome.ok and outcome.stdout.endswith("end\n")


SNEAKY = """
import ctypes, fcntl, os, resource, signal, struct, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def quietly(attempt):
    try: attempt()
    except (OSError, ValueError): pass
quietly(lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (0, 0)))
quietly(lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL))
def owned():
    read, write = os.pipe()
    fcntl.fcntl(read, 10, signal.SIGKILL)
    fcntl.fcntl(read, 8, pid)
    fcntl.fcntl(read, fcntl.F_SETFL, os.O_ASYNC)
    os.write(write, b"x")
quietly(owned)
print(libc.ptrace(16, pid, 0, 0), libc.ptrace(16, os.getppid(), 0, 0))
buffer = ctypes.create_string_buffer(8)
class Piece(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
here, there = Piece(ctypes.addressof(buffer), 8), Piece(id(libc), 8)
print(libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0))
quietly(lambda: print(open("/proc/%d/mem" % pid)))
quietly(lambda: print(open("/proc/%d/mem" % os.getppid())))
quietly(lambda: print(open("/proc/1/mem")))
"""


def test_tracing_and_roundabout_signals(mode, victim):
    outcome = attack(mode, SNEAKY, victim.pid)
    assert outcome.ok and outcome.stdout == "-1 -1\n-1\n"


def test_privileges(mode):
    code = (
        "import ctypes, os\nlibc = ctypes.CDLL(None)\n"
        "print([libc.unshare(flag) for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000)])\n"
        "print(libc.prctl(39, 0, 0, 0, 0), libc.mount(b'a', b'.', b'tmpfs', 0, None), libc.setns(0, 0))\n"
        "print(libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0), libc.chroot(b'.'))\n"
        "for attempt in (lambda: os.setuid(0), lambda: os.setgid(0)):\n"
        "    try: attempt(); print(os.getuid())\n    except OSError as error: print('no')"
    )
    outcome = attack(mode, code)
    assert outcome.stdout == "[-1, -1, -1, -1]\n1 -1 -1\n-1 -1\nno\nno\n"


def test_daemon_does_not_outlive_the_program(mode):
    code = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
        "    os.close(1); os.close(2)\n    time.sleep(60)\nelse: print('done')"
    )
    outcome = attack(mode, code)
    assert outcome.ok and outcome.stdout == "done\n"


def test_daemon_does_not_outlive_the_limit(mode):
    code = (
        "import os, time, signal\nfor number in range(1, 65):\n"
        "    try: signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "for _ in range(2):\n    if os.fork() == 0: os.setsid(); os.fork()\nwhile True: time.sleep(1)"
    )
    outcome = attack(mode, code, limits=SHORT)
    assert outcome.status == "timeout" and outcome.exit_code is None


@pytest.mark.parametrize(
    "code", ["import time; time.sleep(60)", "while True: pass", "import os\nos.kill(os.getpid(), 19)"]
)
def test_running_forever(mode, code):
    if "kill" in code and mode == "filters":
        code = "import signal\nsignal.pause()"  # signals are shut there
    assert attack(mode, code, limits=SHORT).status == "timeout"


def test_processor_time(mode):
    outcome = attack(mode, "while True: pass", limits=replace(SMALL, seconds=30.0, cpu_seconds=0.5))
    assert outcome.status == "timeout" and "processor" in outcome.detail and outcome.seconds < 25


def test_processor_time_of_ended_children_counts(mode):
    code = (
        "import os, time\nwhile True:\n    child = os.fork()\n    if child == 0:\n"
        "        end = time.process_time() + 0.1\n        while time.process_time() < end: pass\n        os._exit(0)\n"
        "    os.waitpid(child, 0)"
    )
    outcome = attack(mode, code, limits=replace(SMALL, seconds=30.0, cpu_seconds=0.5))
    assert outcome.status == "timeout" and "processor" in outcome.detail


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_printing_forever(mode, stream):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = attack(mode, f"import sys\nwhile True: sys.{stream}.write('x' * 100000)")
    assert outcome.status == "output" and outcome.exit_code is None
    assert len(outcome.stdout) + len(outcome.stderr) == SMALL.output_kb * 1024
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KB; the program wrote far more


def test_printing_just_too_much_and_ending(mode):
    assert attack(mode, "print('x' * 65535)").ok
    assert attack(mode, "print('x' * 65536)").status == "output"


def test_filling_the_disk(mode):
    code = (
        "import itertools\nfor number in itertools.count():\n"
        "    with open(f'f{number}', 'wb') as file:\n        for _ in range(4): file.write(bytes(2**19))"
    )
    outcome = attack(mode, code)
    assert outcome.status == "error" and ("No space left" in outcome.stderr or "folder" in outcome.detail)


def test_one_large_file(mode):
    outcome = attack(mode, "with open('f', 'wb') as file:\n    for _ in range(9): file.write(bytes(2**20))")
    assert outcome.status == "error"


def test_exhausting_descriptors_and_recursion(mode):
    outcome = attack(mode, "handles = []\nwhile True: handles.append(open('/dev/null'))")
    assert outcome.status == "error" and "Too many open files" in outcome.stderr
    assert "RecursionError" in attack(mode, "def f(): f()\nf()").stderr
    deep = "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n    def __getattr__(self, n): return getattr(self, n)\n"
    assert attack(mode, deep + "A().x").status in ("error", "memory")


def test_standard_input(mode):
    assert attack(mode, "import sys; print(len(sys.stdin.read()))", stdin="x" * 300_000).stdout == "300000\n"
    assert attack(mode, "print('read nothing')", stdin="x" * 300_000).stdout == "read nothing\n"
    assert attack(mode, "import os, time; os.close(0); time.sleep(0.2); print(1)", stdin="x" * 300_000).stdout == "1\n"
    assert attack(mode, "import sys\nprint(list(sys.stdin))").stdout == "[]\n"


def test_links_lead_nowhere(mode, outside):
    (outside / "kept").write_text("mine")
    code = (
        "import os, sys\nos.symlink(sys.argv[1], 'out')\nos.symlink('/', 'root')\n"
        "for path in ('out/kept', 'out/new', 'root' + sys.argv[1] + '/new'):\n"
        "    try: open(path, 'w').write('x'); print('wrote')\n    except OSError: pass\n"
        "os.umask(0o777)\nos.makedirs('a')\nos.mkdir('b')\nopen('c', 'w')"
    )
    outcome = attack(mode, code, outside)
    assert outcome.ok and outcome.stdout == ""
    assert (outside / "kept").read_text() == "mine" and len(list(outside.iterdir())) == 1


def test_forged_records(mode):
    code = (
        "import os\nfor handle in range(1, 256):\n"
        '    try: os.write(handle, b\'{"exit": 0, "status": "ok", "peak_kb": 1}\\n\')\n    except OSError: pass\n'
        "os._exit(3)"
    )
    outcome = attack(mode, code)
    assert (outcome.status, outcome.exit_code) == ("error", 3)
    assert len(outcome.stdout.splitlines()) == 1, "only stdout and stderr were there to write to"


def test_odd_programs_are_outcomes(mode):
    assert attack(mode, "x = \0").status == "error"
    assert attack(mode, "def (").status == "error"
    assert attack(mode, "import os; os.write(1, bytes(range(128, 256)))").ok
    assert attack(mode, "import os; os._exit(200)").exit_code == 200
    assert attack(mode, "import os\nos.remove('main.py')\nos.rmdir(os.getcwd())").status == "error"
    nameless = attack(mode, "import os; os.kill(os.getpid(), 40)")
    assert nameless.status == "error"
    assert "signal 40" in nameless.detail or (mode == "filters" and "not permitted" in nameless.stderr)
    odd = "import ctypes, time\nctypes.CDLL(None).prctl(15, b'\\xff\\xfe)\\xff')\ntime.sleep(0.4)\nprint('named')"
    assert attack(mode, odd).stdout == "named\n"


def test_a_run_leaves_no_folder(mode):
    assert attack(mode, "open('a', 'w').write('b')").ok
    assert glob.glob(f"{tempfile.gettempdir()}/rlpost-box-*") == []
