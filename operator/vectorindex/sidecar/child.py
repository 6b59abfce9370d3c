"""What every child process does first. It imports little: a searcher and a builder pay for it in memory and
start-up."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def begin(parent: int) -> None:
    """Be killed when the front, ``parent``, dies, and end now if it is dead already. Ctrl-C at a terminal goes to the
    whole process group: it is ignored here, because the front decides when its children end."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit("the sidecar that started this process has ended")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
