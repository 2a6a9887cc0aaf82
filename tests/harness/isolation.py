"""Ways to start a program as a container would: as PID 1, on a full disk, with a Pod's token mounted."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

TOKEN_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True)
class Isolation:
    """What the program finds different; each needs root or an unprivileged user namespace."""

    pid_1: bool = False
    """It is the first process of a PID namespace."""
    tmpfs: tuple[Path, int] | None = None
    """A directory that is an empty tmpfs of that many bytes, seen only by the program."""
    service_account: Path | None = None
    """This directory is where a Pod's service account is mounted."""
    read_only_but: Path | None = None
    """Nothing can be written but below this directory."""

    def prefix(self) -> list[str]:
        """The words to put before the program's."""
        script = self._mounts()
        if not script and not self.pid_1:
            return []
        options = ["--mount"]
        if self.pid_1:
            options += ["--pid", "--fork", "--kill-child", "--mount-proc"]
        if os.geteuid() != 0:
            options += ["--user", "--map-root-user"]
        return ["unshare", *options, "--", "sh", "-ec", f'{script}exec "$@"', "sh"]

    def _mounts(self) -> str:
        script = ""
        if self.tmpfs:
            path, size = self.tmpfs
            script += f"mount -t tmpfs -o size={size},mode=0777 tmpfs {shlex.quote(str(path))}\n"
        if self.service_account:
            # Over all of /run, since the directory is not there and must not be made on the machine itself.
            source = shlex.quote(str(self.service_account))
            script += f"exec 3< {source}\nmount -t tmpfs tmpfs /run\nmkdir -p {TOKEN_DIRECTORY}\n"
            script += f"mount --bind /proc/self/fd/3 {TOKEN_DIRECTORY}\nexec 3<&-\n"
        if self.read_only_but:
            path = self.read_only_but
            script += f"mount --bind {shlex.quote(str(path))} {shlex.quote(str(path))}\n" + READ_ONLY
            script += f"mount -o remount,bind,rw {shlex.quote(str(path))}\n"
        return script


# What cannot be remounted (a pseudo file system of the machine) stays as it is.
READ_ONLY = """\
while read -r _ _ _ _ target _; do
    case $target in /proc*|/sys*|/dev|/dev/pts) continue ;; esac
    mount -o remount,bind,ro "$target" 2> /dev/null || :
done < /proc/self/mountinfo
"""
