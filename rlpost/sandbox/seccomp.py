"""A system-call filter: no sockets, no tracing, no namespaces, none of the kernel's seldom used corners.

Source: Linux kernel documentation, "Seccomp BPF" (userspace-api/seccomp_filter); call numbers from the kernel's tables.
"""

import errno
import struct

from rlpost.sandbox import kernel

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _AND, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_NAMESPACE_FLAGS = 0x7E020000
_UNIX = 1
_DATAGRAM, _RAW = 2, 3  # both can be sent to any address, connected or not; AF_UNIX takes raw for datagram

# (x86_64, aarch64); None where the machine has no such call.
_NEVER = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272), "pidfd_getfd": (438, 438),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "memfd_secret": (447, 447), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None),
    "vhangup": (153, 58), "fanotify_init": (300, 262), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # Shared memory, semaphores and messages of others are found by small numbers, not only by asking for them.
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
}  # fmt: skip
# Programs that meet "no such call" take another way. clone3 hides its flags in memory, where a filter cannot look;
# memory files and rings would not count as files.
_ABSENT = {
    "clone3": (435, 435), "memfd_create": (319, 279), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}  # fmt: skip
# Without a process tree of its own the program sees others, and some may belong to the same user.
_TO_OTHERS = {
    "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424), "setpriority": (141, 140), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274), "sched_setaffinity": (203, 122),
    "ioprio_set": (251, 30), "process_madvise": (440, 440), "process_mrelease": (448, 448),
}  # fmt: skip
# Landlock does not judge these. Whoever may write a file may touch it, whoever owns it may change its mode and owner.
_TOUCHES = {
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": (466, 466),
}  # fmt: skip
_MODES = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
}  # fmt: skip
_CLONE, _SOCKETPAIR, _TGKILL, _PRLIMIT, _FCNTL, _IOCTL = (
    (56, 220),
    (53, 199),
    (234, 131),
    (302, 261),
    (72, 25),
    (16, 29),
)
_OWNER_COMMANDS = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: the kernel signals whoever is named
_OWNER_IOCTLS = (0x8901, 0x8902)  # FIOSETOWN, SIOCSPGRP
_TERMINAL_IOCTLS = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing into a terminal


def supported() -> bool:
    """Whether the call numbers of this machine are known."""
    return kernel.MACHINE in _ARCH


def install(*, others_visible: bool, same_user: bool) -> None:
    """Judge this process and its children from now on.

    `others_visible`: there is no process tree and no file tree of its own. `same_user`: its files and processes have
    the user of others.
    """
    kernel.install_filter(program(others_visible=others_visible, same_user=same_user))


def program(*, others_visible: bool, same_user: bool) -> bytes:
    """The BPF instructions."""
    column = list(_ARCH).index(kernel.MACHINE)
    lines = [_op(_LOAD, _ARCHITECTURE), _op(_EQUAL, _ARCH[kernel.MACHINE], 1, 0), _op(_RETURN, _KILL)]
    lines.append(_op(_LOAD, _NUMBER))
    if kernel.MACHINE == "x86_64":  # the x32 numbers are a second door to the same calls
        lines += [_op(_AT_LEAST, 0x40000000, 0, 1), _op(_RETURN, _KILL)]
    denied = [*_NEVER.values()]
    if others_visible:
        denied += _TOUCHES.values()
    if others_visible and same_user:
        denied += [*_TO_OTHERS.values(), *_MODES.values()]
    for numbers in denied:
        lines += _refuse(numbers[column], errno.EPERM)
    for numbers in _ABSENT.values():
        lines += _refuse(numbers[column], errno.ENOSYS)
    lines += _refuse_if(_CLONE[column], 0, [(_ANY_BIT, _NAMESPACE_FLAGS)])
    lines += _refuse_unless(_SOCKETPAIR[column], 0, _UNIX)  # TIPC has pairs too, and they reach other machines
    lines += _refuse_if(_SOCKETPAIR[column], 1, [(_EQUAL, _DATAGRAM), (_EQUAL, _RAW)], bits=0xF)
    lines += _refuse_if(_IOCTL[column], 1, [(_EQUAL, command) for command in (*_TERMINAL_IOCTLS, *_OWNER_IOCTLS)])
    if others_visible:
        lines += _refuse_if(_FCNTL[column], 1, [(_EQUAL, command) for command in _OWNER_COMMANDS])
    if others_visible or same_user:  # in a process tree of its own the first process has the same user
        lines += _refuse_unless(_PRLIMIT[column], 0, 0)
    if others_visible and same_user:
        lines += _refuse(_TGKILL[column], errno.EPERM)
    lines.append(_op(_RETURN, _ALLOW))
    return b"".join(lines)


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _refuse(number: int | None, error: int) -> list[bytes]:
    return [] if number is None else [_op(_EQUAL, number, 0, 1), _op(_RETURN, _ERRNO | error)]


def _refuse_if(number: int, argument: int, tests: list[tuple[int, int]], bits: int = 0xFFFFFFFF) -> list[bytes]:
    """EPERM where the low half of an argument passes one of the tests; else the number is loaded again."""
    body = [_op(_LOAD, _ARGUMENTS + 8 * argument), _op(_AND, bits)]
    for code, value in tests:
        body += [_op(code, value, 0, 1), _op(_RETURN, _ERRNO | errno.EPERM)]
    body.append(_op(_LOAD, _NUMBER))
    return [_op(_EQUAL, number, 0, len(body)), *body]


def _refuse_unless(number: int, argument: int, value: int) -> list[bytes]:
    """EPERM where the low half of an argument is anything but `value`; else the number is loaded again."""
    body = [
        _op(_LOAD, _ARGUMENTS + 8 * argument),
        _op(_EQUAL, value, 1, 0),
        _op(_RETURN, _ERRNO | errno.EPERM),
        _op(_LOAD, _NUMBER),
    ]
    return [_op(_EQUAL, number, 0, len(body)), *body]
