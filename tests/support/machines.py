"""Network namespaces that stand for machines: each has an address of its own on one bridge."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """A namespace.

    Attributes:
        name: of it.
        address: IPv4, within these namespaces only.
    """

    name: str
    address: str

    @property
    def enter(self) -> list[str]:
        """The words before a command that runs in it."""
        return ["ip", "netns", "exec", self.name]


def why_not() -> str:
    """Why there can be no namespaces here; empty where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need iproute2"
    name = f"tfdetect-{os.getpid()}-try"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return "network namespaces are not allowed"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


@contextlib.contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """So many machines, which reach one another and nothing else."""
    prefix = f"tfdetect-{os.getpid()}"
    switch = f"{prefix}-switch"
    with contextlib.ExitStack() as stack:

        def namespace(name: str) -> None:
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
            _ip("-n", name, "link", "set", "lo", "up")

        namespace(switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        made = []
        for index in range(count):
            one = Machine(f"{prefix}-{index}", f"10.77.0.{index + 1}")
            namespace(one.name)
            end = f"port{index}"
            peer = ("peer", "name", "eth0", "netns", one.name)
            _ip("-n", switch, "link", "add", end, "type", "veth", *peer)
            _ip("-n", switch, "link", "set", end, "master", "bridge", "up")
            _ip("-n", one.name, "addr", "add", f"{one.address}/24", "dev", "eth0")
            _ip("-n", one.name, "link", "set", "eth0", "up")
            made.append(one)
        yield made


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
