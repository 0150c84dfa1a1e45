"""Runs commands of the host, such as ip(8) and wg(8)."""

from __future__ import annotations

import subprocess

from warren.errors import Unavailable

TIMEOUT_S = 10.0


def run(*command: str, netns: str | None = None, text: str | None = None) -> str:
    """Run a command, in a network namespace if one is named; return its output. Raises `Unavailable`."""
    words = ["nsenter", f"--net=/run/netns/{netns}", "--", *command] if netns else list(command)
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=TIMEOUT_S, start_new_session=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(command[0], f"it does not run ({getattr(error, 'strerror', None) or error})") from None
    if done.returncode != 0:
        raise Unavailable(command[0], (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return done.stdout
