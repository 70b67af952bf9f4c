"""The supervisor: one process per run, outside the cage. Starts the program, watches it, ends all it left behind."""

import contextlib
import fcntl
import itertools
import os
import select
import signal
import socket
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any

from rlpost.sandbox import jail, kernel, wire
from rlpost.sandbox.folder import remove, too_full
from rlpost.sandbox.tree import Usage, descendants, end_all, usage

TICK_S = 0.02
FOLDER_S = 0.2  # how often a folder on a shared disk is measured
_CHUNK = 1 << 16
_ABOVE = 10


@dataclass
class Pipes:
    """Our ends: stdin to write, stdout, stderr, the program's result and the status lines to read."""

    stdin: int
    stdout: int
    stderr: int
    result: int
    status: int
    data: dict[int, bytearray] = field(default_factory=dict)


@dataclass
class End:
    """Why a run ended: a status of `Outcome` with words, or "gone" when nobody waits for the result any more."""

    status: str
    detail: str = ""


def serve(connection: socket.socket, namespaces: bool) -> None:
    """Answer the one request of this connection."""
    header, body = wire.receive(connection)
    try:
        reply, output = run(header, body, connection, namespaces)
    except OSError as error:
        reply, output = {"broken": str(error)}, b""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        wire.send(connection, reply, output)


def run(
    request: dict[str, Any], body: bytes, connection: socket.socket, namespaces: bool
) -> tuple[dict[str, Any], bytes]:
    """Run one program; OSError where the cage cannot be built."""
    stdin, files = wire.split_body(request, body)
    user = jail.other_user() if os.geteuid() == 0 else os.geteuid()
    folder = jail.BOX if namespaces else tempfile.mkdtemp(prefix="rlpost-box-")
    shared = "" if namespaces else folder
    kernel.adopt_orphans()
    try:
        if namespaces:
            jail.leave_process_tree()
        else:
            jail.write_files(folder, files, user)
        start = time.monotonic()
        init, pipes = _start(request, files, folder, user, namespaces, connection)
        try:
            end, peak = _watch(request["limits"], init, pipes, stdin, connection, start, shared)
        finally:
            end_all(init, TICK_S)
        seconds = time.monotonic() - start
        _drain(pipes, request["limits"]["output_kb"] << 10)
    finally:
        if not namespaces:
            remove(folder)
    return _report(request["limits"], end, pipes, peak, seconds)


def _start(
    request: dict[str, Any],
    files: list[tuple[str, bytes]],
    folder: str,
    user: int,
    namespaces: bool,
    connection: socket.socket,
) -> tuple[int, Pipes]:
    """Fork the first process of the cage; returns its id and our ends of the pipes."""
    pairs = {name: os.pipe() for name in ("stdin", "stdout", "stderr", "result", "status")}
    theirs = {name: pair[0 if name == "stdin" else 1] for name, pair in pairs.items()}
    ours = {name: pair[1 if name == "stdin" else 0] for name, pair in pairs.items()}
    init = os.fork()
    if init == 0:
        try:
            connection.close()
            for handle in ours.values():
                os.close(handle)
            first_process(request, files, folder, user, theirs, namespaces)
        except BaseException as error:
            jail.say(theirs["status"], broken=f"{type(error).__name__}: {error}")
        finally:
            os._exit(1)
    for handle in theirs.values():
        os.close(handle)
    for handle in ours.values():
        os.set_blocking(handle, False)
    return init, Pipes(**ours, data={ours[name]: bytearray() for name in ("stdout", "stderr", "result", "status")})


def first_process(
    request: dict[str, Any],
    files: list[tuple[str, bytes]],
    folder: str,
    user: int,
    pipes: dict[str, int],
    namespaces: bool,
) -> None:
    """Process 1 of the cage: builds it, starts the program, reaps orphans and reports how the program ended."""
    if namespaces:
        jail.build_root(request["reads"], request["limits"]["folder_mb"], user)
        jail.write_files(folder, files, user)
    else:
        kernel.adopt_orphans()
    kernel.hide_memory()
    kernel.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python's own handler would let the program end this process
    main = os.fork()
    if main == 0:
        try:
            become(request, folder, user, pipes, namespaces)
        except BaseException as error:
            jail.say(pipes["status"], broken=f"{type(error).__name__}: {error}")
        finally:
            os._exit(1)
    for name in ("stdin", "stdout", "stderr", "result"):
        os.close(pipes[name])
    while True:
        child, status, used = os.wait4(-1, 0)
        if child == main:
            jail.say(pipes["status"], exit=status, peak_kb=used.ru_maxrss)
            os._exit(0)


def become(request: dict[str, Any], folder: str, user: int, pipes: dict[str, int], namespaces: bool) -> None:
    """Turn this process into the program; returns only by an exception or after a command that does not exist."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    os.umask(0o077)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # out of memory, the kernel ends the program before the trainer
    os.chdir(folder)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.dup2(pipes[name], number)
    # Out of the way of the program's descriptors, and closed by exec.
    status, result = (fcntl.fcntl(pipes[name], fcntl.F_DUPFD_CLOEXEC, _ABOVE) for name in ("status", "result"))
    pipes["status"] = status
    keep = {0, 1, 2, status}
    if request["result"]:
        os.dup2(result, wire.RESULT_FD)
        keep.add(wire.RESULT_FD)
    for low, high in _gaps(sorted(keep)):
        os.closerange(low, high)
    environment = {**request["env"], "HOME": folder, "TMPDIR": folder}
    jail.set_limits(request["limits"], own_count=user != os.geteuid() or (namespaces and _counts_by_namespace()))
    jail.lock(request["reads"], folder, user, others_visible=not namespaces)
    try:
        os.execvpe(request["command"][0], request["command"], environment)
    except OSError as error:
        jail.say(status, missing=f"{request['command'][0]}: {error.strerror}")


def _gaps(keep: list[int]) -> list[tuple[int, int]]:
    """The ranges of descriptors between those to keep, up to the largest that can be open."""
    edges = [-1, *keep, os.sysconf("SC_OPEN_MAX")]
    return [(low + 1, high) for low, high in itertools.pairwise(edges) if low + 1 < high]


def _counts_by_namespace() -> bool:
    """Since Linux 5.14 a user namespace counts processes anew."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(filter(str.isdigit, minor)) or 0)) >= (5, 14)


def _watch(
    limits: dict[str, Any],
    init: int,
    pipes: Pipes,
    stdin: bytes,
    connection: socket.socket,
    start: float,
    shared_folder: str,
) -> tuple[End, Usage]:
    """Move data until the program ends or breaks a limit.

    `shared_folder` is the folder of a run that lies on a disk of others, which no mount bounds; else empty.
    """
    poll, left, peak = select.poll(), memoryview(stdin), Usage()
    for handle in (*pipes.data, connection.fileno()):
        poll.register(handle, select.POLLIN)
    if left:
        poll.register(pipes.stdin, select.POLLOUT)
    else:
        os.close(pipes.stdin)
    look = measure = start + TICK_S
    while True:
        now = time.monotonic()
        if now >= look:
            found = usage(descendants(init), limits["memory_mb"] << 10)
            peak = peak.highest(found)
            broken = over(limits, found, now - start)
            if not broken and shared_folder and now >= measure:
                measure = now + FOLDER_S
                words = too_full(shared_folder, limits["folder_mb"])
                broken = End("error", words) if words else None
            if broken:
                return broken, peak
            look = now + TICK_S
        for handle, event in poll.poll(max(0.0, look - now) * 1000 + 1):
            if handle == connection.fileno():
                return End("gone"), peak
            if handle == pipes.stdin:
                left = _feed(pipes.stdin, left, event)
                if not left:
                    poll.unregister(pipes.stdin)
                    os.close(pipes.stdin)
            elif not _read(handle, pipes):
                poll.unregister(handle)
                if handle == pipes.status:
                    return End("ended"), peak
        if _size(pipes) > limits["output_kb"] << 10:
            return End("output", f"it printed more than {limits['output_kb']} KB"), peak


def over(limits: dict[str, Any], used: Usage, seconds: float) -> End | None:
    """The limit that is broken, if any."""
    if seconds > limits["seconds"]:
        return End("timeout", f"it ran longer than {limits['seconds']:g} s")
    if used.cpu_seconds > limits["cpu_seconds"]:
        return End("timeout", f"it used more than {limits['cpu_seconds']:g} s of processor time")
    if used.memory_kb > limits["memory_mb"] << 10:
        return End("memory", f"its processes used more than {limits['memory_mb']} MB together")
    if used.tasks > limits["processes"]:
        return End("processes", f"it had more than {limits['processes']} processes and threads")
    return None


def _feed(handle: int, left: memoryview, event: int) -> memoryview:
    """Write what the pipe takes; nothing is left once the program closed its end."""
    if event & select.POLLERR:
        return left[:0]
    try:
        return left[os.write(handle, left[:_CHUNK]) :]
    except BlockingIOError:
        return left
    except BrokenPipeError:
        return left[:0]


def _read(handle: int, pipes: Pipes) -> bool:
    """Take one chunk; False at the end."""
    try:
        chunk = os.read(handle, _CHUNK)
    except BlockingIOError:
        return True
    pipes.data[handle] += chunk
    return bool(chunk)


def _size(pipes: Pipes) -> int:
    return sum(len(pipes.data[handle]) for handle in (pipes.stdout, pipes.stderr, pipes.result))


def _drain(pipes: Pipes, cap: int) -> None:
    """What still lies in the pipes; all writers are dead, so this ends."""
    for handle in pipes.data:
        while _size(pipes) <= cap + _CHUNK and (chunk := _now(handle)):
            pipes.data[handle] += chunk


def _now(handle: int) -> bytes:
    try:
        return os.read(handle, _CHUNK)
    except BlockingIOError:
        return b""


def _report(
    limits: dict[str, Any], end: End, pipes: Pipes, peak: Usage, seconds: float
) -> tuple[dict[str, Any], bytes]:
    """The reply. The words of the program decide nothing but the label of a failure."""
    record = wire.first_line(bytes(pipes.data[pipes.status]))
    cap = limits["output_kb"] << 10
    texts = [bytes(pipes.data[handle])[:cap] for handle in (pipes.stdout, pipes.stderr, pipes.result)]
    if "broken" in record:
        return {"broken": record["broken"]}, b""
    code: int | None = None
    peak_kb = max(peak.memory_kb, record.get("peak_kb", 0))
    if "missing" in record:
        end, code, texts[1] = End("error", "the command cannot be run"), 127, record["missing"].encode()
    elif end.status == "ended" and "exit" not in record:
        return {"broken": "the first process of the sandbox was killed"}, b""
    elif end.status == "ended":
        code = os.waitstatus_to_exitcode(record["exit"])
        end = _label(limits, code, texts[1], peak_kb)
    if _size(pipes) > cap and end.status in ("ok", "error"):
        end, code = End("output", f"it printed more than {limits['output_kb']} KB"), None
    reply = {
        "status": end.status,
        "detail": end.detail,
        "exit_code": code,
        "seconds": seconds,
        "peak_mb": peak_kb / 1024,
        "sizes": [len(text) for text in texts],
    }
    return reply, b"".join(texts)


def _label(limits: dict[str, Any], code: int, stderr: bytes, peak_kb: int) -> End:
    if code == 0:
        return End("ok")
    if code == -signal.SIGXCPU:
        return End("timeout", f"it used more than {limits['cpu_seconds']:g} s of processor time")
    last = stderr.rstrip().rpartition(b"\n")[2]
    if last.startswith(b"MemoryError") or peak_kb > 0.9 * (limits["memory_mb"] << 10):
        return End("memory", f"it asked for more than {limits['memory_mb']} MB")
    return End("error", f"signal {_name(-code)}" if code < 0 else f"exit code {code}")


def _name(number: int) -> str:
    """A signal's name; real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
