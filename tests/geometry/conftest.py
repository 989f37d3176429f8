"""Hypothesis without a deadline: these tests run on machines that are busy with others."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
