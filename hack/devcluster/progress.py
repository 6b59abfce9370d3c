"""Progress for a person: one line when something starts, one when it ends, a sign of life in between.

Everything goes to standard error, so that what a command prints stays usable by programs.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

HEARTBEAT_SECONDS = 15.0


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"devcluster: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(what: str, usually: str = "") -> Iterator[None]:
    """Announce a step that takes a while, show that it is alive, and say how long it took.

    Args:
        what: what is being done, e.g. "building Kubernetes".
        usually: how long it takes as a rule, e.g. "6 to 9 minutes on 2 cores".
    """
    started = time.monotonic()
    done = threading.Event()
    say(f"{what}{f' ({usually})' if usually else ''} …")

    def heartbeat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            say(f"{what}: {duration(time.monotonic() - started)} so far")

    threading.Thread(target=heartbeat, name="progress", daemon=True).start()
    try:
        yield
    except BaseException:
        say(f"{what}: failed after {duration(time.monotonic() - started)}")
        raise
    finally:
        done.set()
    say(f"{what}: done in {duration(time.monotonic() - started)}")


def duration(seconds: float) -> str:
    """Seconds as a person writes them: `4.2 s`, `48 s`, `6 min 12 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
