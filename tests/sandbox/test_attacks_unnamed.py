"""Attacks that name no file: kernel objects of others, limits of others, folders without content.

Like test_attacks.py it needs nothing but pytest and the standard library.
"""

import ctypes
import glob
import os
import tempfile
import uuid
from dataclasses import replace

import pytest

from tests.sandbox.cages import SMALL, attack, why_not

SHORT = replace(SMALL, seconds=1.0)


@pytest.fixture(params=["namespaces", "filters"])
def mode(request):
    reason = why_not(request.param)
    if reason:
        pytest.skip(f"no cage by {request.param} here: {reason}")
    return request.param


KERNEL_OBJECTS = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
memory, semaphore, queue = map(int, sys.argv[1:4])
place = libc.shmat(memory, None, 0)
if place != ctypes.c_void_p(-1).value:
    print(ctypes.string_at(place, 6)); ctypes.memmove(place, b"BROKEN", 6)
letter = ctypes.create_string_buffer(b"\\1" + bytes(7) + b"hi", 16)
print(libc.msgsnd(queue, letter, 2, 0o4000), libc.msgrcv(queue, letter, 2, 0, 0o4000), libc.msgctl(queue, 0, None))
print(libc.semctl(semaphore, 0, 16, 7), libc.semctl(semaphore, 0, 0), libc.shmctl(memory, 0, None))
print(libc.mq_unlink(b"/" + sys.argv[4].encode()))
"""


@pytest.fixture
def kernel_objects():
    """Shared memory, a semaphore and two message queues outside, which every user may use."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    made = [libc.shmget(0, 4096, 0o1666), libc.semget(0, 1, 0o1666), libc.msgget(0, 0o1666)]
    name = f"rlpost-{uuid.uuid4()}"
    place = libc.shmat(made[0], None, 0)
    ctypes.memmove(place, b"SECRET", 6)
    libc.mq_open(f"/{name}".encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
    try:
        yield [*made, name]
        assert ctypes.string_at(place, 6) == b"SECRET" and libc.semctl(made[1], 0, 12) == 0
        assert libc.mq_unlink(f"/{name}".encode()) == 0
    finally:
        libc.shmctl(made[0], 0, None), libc.semctl(made[1], 0, 0), libc.msgctl(made[2], 0, None)


def test_shared_memory_and_queues_of_others(mode, kernel_objects):
    outcome = attack(mode, KERNEL_OBJECTS, *kernel_objects)
    assert outcome.stdout == "-1 -1 -1\n-1 -1 -1\n-1\n"


def test_limits_of_the_first_process(mode):
    code = (
        "import os, resource\nfor pid in (1, os.getppid()):\n"
        "    try: resource.prlimit(pid, resource.RLIMIT_AS, (0, 0)); print('set')\n    except OSError: pass"
    )
    outcome = attack(mode, code)
    assert outcome.ok and outcome.stdout == ""


def test_the_first_process_has_no_handler_that_a_signal_could_reach(mode):
    """Where the kernel keeps no signals inside, a program of the same user may send its first process one."""
    code = (
        "try: text = open('/proc/1/status').read()\nexcept OSError: text = 'SigCgt:\\t0'\n"
        "print(int(next(line for line in text.splitlines() if line.startswith('SigCgt')).split()[1], 16))"
    )
    outcome = attack(mode, code)
    assert outcome.ok and outcome.stdout == "0\n"


def left_behind(mode, code, **how):
    """The outcome of a program, and the folders that it leaves; it marks its own, since others run beside it."""
    name = f"mark-{uuid.uuid4()}"
    outcome = attack(mode, f"import itertools, os\nopen({name!r}, 'w').close()\n{code}", **how)
    return outcome, glob.glob(f"{tempfile.gettempdir()}/rlpost-box-*/{name}")


@pytest.mark.parametrize("make", ["os.mkdir(str(number))", "open(str(number), 'w').close()"])
def test_filling_the_folder_without_a_byte(mode, make):
    outcome, left = left_behind(mode, f"for number in itertools.count(): {make}")
    assert outcome.status == "error" and ("No space left" in outcome.stderr or "folder" in outcome.detail)
    assert left == []


def test_folders_in_folders_without_end(mode):
    outcome, left = left_behind(mode, "while True: os.mkdir('d' * 99); os.chdir('d' * 99)", limits=SHORT)
    assert outcome.status == ("timeout" if mode == "namespaces" else "error")
    assert (mode == "namespaces" or "too deeply" in outcome.detail) and left == []


def test_a_deep_and_shut_folder_is_removed(mode):
    code = "for _ in range(999): os.mkdir('d' * 99); os.chdir('d' * 99)\nos.umask(0o777)\nos.mkdir('shut')"
    outcome, left = left_behind(mode, code)
    assert outcome.status in ("ok", "error") and left == []
