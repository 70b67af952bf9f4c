"""The fork server: a small process that has imported little, from which every supervisor is forked.

Started as a script by `rlpost.sandbox.client`; it ends when the last client closes the control socket.
"""

import os
import signal
import socket
import sys
from typing import Any

from rlpost.sandbox import landlock, seccomp, supervise


def main(handle: int) -> None:
    """Fork a supervisor for each connection that comes over the control socket."""
    control = socket.socket(fileno=handle)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for supervisors
    while True:
        message, handles, _, _ = socket.recv_fds(control, 1, 1)
        if not message or not handles:
            return
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            _serve(socket.socket(fileno=handles[0]), message == b"n")
            os._exit(0)
        os.close(handles[0])


def _serve(connection: socket.socket, namespaces: bool) -> None:
    try:
        supervise.serve(connection, namespaces)
    except BaseException as error:  # a fault of ours; the client meets a closed connection and raises
        print(f"rlpost sandbox: {type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)


def layers() -> dict[str, Any]:
    """What the kernel offers, apart from namespaces, which only a try can tell."""
    return {"seccomp": seccomp.supported(), "landlock": landlock.version(), "signals": landlock.guards_signals()}
