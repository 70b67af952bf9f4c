"""Programs that try to reach real servers of this machine, by every kind of socket."""

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import uuid

import pytest

from tests.sandbox.cages import attack, wait_until, why_not

CLIENT = """
import os, socket, sys
tcp, udp, path, abstract = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], "\\0" + sys.argv[4]
def refused(attempt):
    try: attempt()
    except PermissionError: raise
    except OSError: pass  # only because this kernel has no such pair
def tries():
    yield lambda: socket.create_connection(("127.0.0.1", tcp), 2).send(b"hello")
    yield lambda: socket.create_connection(("::1", tcp), 2)
    yield lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", ("127.0.0.1", udp))
    for name in (path, abstract):
        yield lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"hello", name)
        for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_STREAM):
            yield lambda: socket.socketpair(socket.AF_UNIX, kind)[0].sendto(b"hello", name)
            yield lambda: socket.socketpair(socket.AF_UNIX, kind)[0].connect(name)
    for family in (2, 30):  # inet, tipc: a pair of the latter can send to other machines
        for kind in (socket.SOCK_STREAM, socket.SOCK_RDM, socket.SOCK_SEQPACKET):
            yield lambda: refused(lambda: socket.socketpair(family, kind))
    for family in (16, 17, 38, 40):  # netlink, packet, alg, vsock
        yield lambda: socket.socket(family, socket.SOCK_RAW)
    yield lambda: socket.socket(40, socket.SOCK_STREAM)
    yield lambda: socket.create_server(("127.0.0.1", 0))
    yield lambda: socket.getaddrinfo("localhost.invalid", 80)
for number, attempt in enumerate(tries()):
    try:
        attempt()
        print("reached", number)
    except OSError:
        pass
left, right = socket.socketpair()
left.send(b"inside")
print(right.recv(6).decode())
"""


@pytest.fixture
def heard():
    """TCP, UDP and Unix servers that note every contact; yields their addresses and the notes."""
    notes: list[str] = []
    tcp = socket.create_server(("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o777)
    path, name = f"{folder}/s", f"rlpost-{uuid.uuid4()}"
    unix = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    unix[0].bind(path)
    os.chmod(path, 0o777)
    unix[1].bind("\0" + name)

    def listen(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                notes.append(str(sock.accept()[1] if sock is tcp else sock.recv(100)))

    for sock in (tcp, udp, *unix):
        threading.Thread(target=listen, args=(sock,), daemon=True).start()
    yield (tcp.getsockname()[1], udp.getsockname()[1], path, name), notes
    for sock in (tcp, udp, *unix):
        sock.close()
    shutil.rmtree(folder)


@pytest.mark.parametrize("mode", ["namespaces", "filters"])
def test_no_server_is_reached(mode, heard):
    if why_not(mode):
        pytest.skip(why_not(mode))
    addresses, notes = heard
    outcome = attack(mode, CLIENT, *addresses)
    assert outcome.ok and outcome.stdout == "inside\n"
    assert notes == []


def test_the_servers_do_hear(heard):
    """The check above can fail: the same contacts from outside are noted."""
    (tcp, udp, path, name), notes = heard
    socket.create_connection(("127.0.0.1", tcp)).close()
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"a", ("127.0.0.1", udp))
    for address in (path, "\0" + name):
        left, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        left.sendto(b"b", address)
    assert wait_until(lambda: len(notes) == 4)
