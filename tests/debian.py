"""Debian packages that tests need and, where they are required, install."""

from __future__ import annotations

import os
import shutil
import subprocess


def is_required(variable: str) -> bool:
    """Whether the environment says that tests shall fail, not skip, where something cannot be had."""
    return os.environ.get(variable, "0") not in ("", "0")


def install(*packages: str) -> None:
    """Install packages with apt-get, if there is one and this user may."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    lock = ("-o", "DPkg::Lock::Timeout=120")
    subprocess.run(["apt-get", "update", "-q", *lock], check=True, stdout=subprocess.DEVNULL, timeout=240)
    subprocess.run(
        ["apt-get", "install", "-qy", "--no-install-recommends", *lock, *packages],
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=400,
    )
