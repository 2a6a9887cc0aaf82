"""Have the kernel refuse system calls, as gVisor, old seccomp profiles and some volumes do."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

# asm/unistd.h: on x86_64, and on arm64 and whatever else has the generic table.
_NUMBERS = {
    "flock": (73, 32),
    "fsync": (74, 82),
    "fchmod": (91, 52),
    "memfd_create": (319, 279),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
}
# linux/bpf_common.h, linux/seccomp.h, linux/prctl.h
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse(**calls: int) -> None:
    """Let each of these calls fail with its errno, from now on and in all that is started: flock=ENOLCK."""
    column = 0 if platform.machine() == "x86_64" else 1
    program = [struct.pack("HBBI", _LOAD, 0, 0, 0)]  # the number of the call
    for name, number in calls.items():
        program.append(struct.pack("HBBI", _JUMP_IF_EQUAL, 0, 1, _NUMBERS[name][column]))
        program.append(struct.pack("HBBI", _RETURN, 0, 0, _ERRNO | number))
    program.append(struct.pack("HBBI", _RETURN, 0, 0, _ALLOW))
    libc = ctypes.CDLL(None, use_errno=True)
    described = _Program(len(program), b"".join(program))
    for words in ((_NO_NEW_PRIVS, 1, 0, 0, 0), (_SECCOMP, _FILTER, ctypes.byref(described), 0, 0)):
        if libc.prctl(*words):
            code = ctypes.get_errno()
            raise OSError(code, f"prctl: {os.strerror(code)} ({errno.errorcode[code]})")
