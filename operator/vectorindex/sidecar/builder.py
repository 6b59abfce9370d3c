"""A builder: the process that runs one build and ends. A pickled job in on stdin, pickled messages out on stdout.

It is niced, so that searches keep their latency, and it ends at once when its stdin does: nobody is left to take the
result. Whatever it wrote by then is removed by the front, or at the front's next start.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import threading
from typing import Any, BinaryIO

from vectorindex.engine.build import build
from vectorindex.engine.errors import CorruptFile, EngineError, OutOfSpace
from vectorindex.engine.jobs import BuildJob, JobKind, Phase, overall_progress
from vectorindex.sidecar import child, process_memory
from vectorindex.sidecar.builder_messages import Cause, Failed, Progress, encode

_NICE = 19


def main() -> None:
    parser = argparse.ArgumentParser(prog="vectorindex-builder", description=__doc__)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--memory", type=int, help="bytes of anonymous memory that it may hold (default: any number)")
    arguments = parser.parse_args()
    child.begin(arguments.parent)
    os.nice(_NICE)
    try:
        job: BuildJob = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the front, by our own pipe
    except (EOFError, pickle.UnpicklingError):  # the pipe was closed within the job
        sys.exit("the sidecar that started this process has ended")
    if arguments.memory is not None:
        process_memory.confine(arguments.memory, job.threads)
    threading.Thread(target=_end_with, args=(sys.stdin.buffer,), daemon=True).start()
    output = _Output(job.kind)
    try:
        output.send(build(job, output.progress))
    except (EngineError, MemoryError, OSError) as error:
        output.send(Failed(_cause(error), str(error) or type(error).__name__))
    os._exit(0)


def _cause(error: Exception) -> Cause:
    if isinstance(error, CorruptFile):
        return Cause.CORRUPT
    if isinstance(error, MemoryError):
        return Cause.NO_MEMORY
    return Cause.NO_SPACE if isinstance(error, OutOfSpace) else Cause.OTHER


class _Output:
    """Messages to the front. Progress is sent when its integer percentage grows, never otherwise."""

    def __init__(self, kind: JobKind) -> None:
        self._kind = kind
        self._percent = -1

    def send(self, message: Any) -> None:
        try:
            sys.stdout.buffer.write(encode(message))
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # the front is gone, which its stdin is about to say too
            os._exit(1)

    def progress(self, phase: Phase, fraction: float) -> None:
        percent = overall_progress(self._kind, phase, fraction)
        if percent > self._percent:
            self._percent = percent
            self.send(Progress(percent))


def _end_with(pipe: BinaryIO) -> None:
    pipe.read()
    os._exit(1)


if __name__ == "__main__":
    main()
