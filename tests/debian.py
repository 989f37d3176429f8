"""Debian packages, and programs of Node, that tests need and, where they are required, install."""

from __future__ import annotations

import os
import shutil
import subprocess

LOCK = "/tmp/bioimage-slurm-lab-apt.lock"
"""Held by whoever runs apt-get, as in `runner/slurm_lab/start.sh`."""


def is_required(variable: str) -> bool:
    """Whether the environment says that tests shall fail, not skip, where something cannot be had."""
    return os.environ.get(variable, "0") not in ("", "0")


def install(*packages: str) -> None:
    """Install those packages that are missing with apt-get, if there is one and this user may; one process does so at a time."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return
    missing = [package for package in packages if not _is_installed(package)]
    if missing:
        given = ("-q", "-o", "DPkg::Lock::Timeout=120")
        _run("apt-get", "update", *given)
        _run("apt-get", "install", "-y", "--no-install-recommends", *given, *missing)


def install_with_npm(package: str) -> None:
    """Install a program of Node for all users, if there is npm and this user may."""
    if shutil.which("npm") is not None and os.geteuid() == 0:
        _run("npm", "install", "--global", "--no-audit", "--no-fund", package)


def _is_installed(package: str) -> bool:
    command = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return found.stdout == "installed"


def _run(*command: str) -> None:
    subprocess.run(
        ["flock", "--wait", "400", LOCK, *command],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=800,
    )
