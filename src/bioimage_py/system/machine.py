"""The machine: how much memory and how many cores this process may use, and what the kernel says of both."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

from bioimage_py.system.files import device_number


def kernel_says(path: str) -> str | None:
    """Return what is in a file below `/proc` or `/sys`; None where there is none, as on every system but Linux."""
    try:
        with open(path, errors="replace") as file:  # noqa: PTH123 - for workers, which start soon
            return file.read()
    except OSError:
        return None


def boot_id() -> str | None:
    """Return what differs each time that the computer is started; None where it does not say."""
    found = kernel_says("/proc/sys/kernel/random/boot_id")
    return None if found is None else found.strip()


def psutil() -> Any:
    """Return the package psutil, or None: it is installed where the kernel has no `/proc`."""
    try:
        return importlib.import_module("psutil")
    except ImportError:
        return None


def available_cores() -> int:
    """Return how many cores this process may use, which on a cluster can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory() -> int:
    """Return the bytes that this process could still use: the machine's free memory, or its control group's."""
    free = _free_memory()
    for names in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        limit = _number_in(f"/sys/fs/cgroup/{names[0]}")
        used = None if limit is None else _number_in(f"/sys/fs/cgroup/{names[1]}")
        if limit is not None and used is not None:
            free = min(free, max(0, limit - used))
    return free


def _free_memory() -> int:
    for line in (kernel_says("/proc/meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    library = psutil()
    if library is not None:
        return int(library.virtual_memory().available)
    return (_physical_memory() or 2**33) // 2


def peak_memory() -> int | None:
    """Return the most bytes that this process has held so far; None where the system does not say."""
    for line in (kernel_says("/proc/self/status") or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    library = psutil()
    if library is None:
        return None
    held = library.Process().memory_info()
    return int(getattr(held, "peak_wset", held.rss))


def _physical_memory() -> int | None:
    if hasattr(os, "sysconf"):
        try:
            return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        except (ValueError, OSError):
            return None
    library = psutil()
    return None if library is None else int(library.virtual_memory().total)


def waits_by_itself() -> int:
    """Return how many more times this process has waited for something than for a processor; 0 where the system does not say."""
    try:
        resource: Any = importlib.import_module("resource")
    except ImportError:
        return 0
    used = resource.getrusage(resource.RUSAGE_SELF)
    return int(used.ru_nvcsw - used.ru_nivcsw)


def most_memory() -> int:
    """Return the bytes that this process could have at most, as far as the system says."""
    most = _physical_memory() or sys.maxsize
    try:
        resource: Any = importlib.import_module("resource")
    except ImportError:
        return most
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    return most if allowed == resource.RLIM_INFINITY else min(most, int(allowed))


def _number_in(path: str) -> int | None:
    try:
        return int(kernel_says(path) or "")
    except ValueError:
        return None


_DISKS = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "tmpfs", "overlay", "jfs", "reiserfs")
)


@cache
def is_local_disk(device: int) -> bool:
    """Whether a device number is known to be that of a disk of this machine, whose times are those of its own clock."""
    for line in (kernel_says("/proc/self/mountinfo") or "").splitlines():
        fields, _, kind = line.partition(" - ")
        major, _, minor = fields.split()[2].partition(":")
        if device_number(int(major), int(minor)) == device:
            return kind.split()[0] in _DISKS
    return False


def machine_vendors() -> list[str] | None:
    """Return what the machine says of who made it, empty if nothing; None on Windows, where it cannot be asked."""
    if os.name == "nt":
        return None
    names = ("sys_vendor", "bios_vendor", "product_version")
    return [said for name in names if (said := kernel_says(f"/sys/class/dmi/id/{name}")) is not None]


def mapped_files() -> Iterator[tuple[range, int, tuple[int, int], int]]:
    """Yield addresses, offset in the file, device (major, minor) and inode of what this process has mapped; on Linux only."""
    for line in (kernel_says("/proc/self/maps") or "").splitlines():
        addresses, _, offset, device, inode, *_ = line.split()
        begin, end = (int(n, 16) for n in addresses.split("-"))
        major, minor = (int(n, 16) for n in device.split(":"))
        if int(inode):
            yield range(begin, end), int(offset, 16), (major, minor), int(inode)
