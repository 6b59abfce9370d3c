"""Bounds on what one request may ask for, and how many threads work."""

from __future__ import annotations

from vectorindex.sidecar.container import container_limits

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_BODIES_BYTES = 4 * MAX_BODY_BYTES  # of all requests at a time; more is answered 429
MAX_JSON_BYTES = 8 * 1024 * 1024  # of vectors as JSON, which take the event loop 10 ms a megabyte
MAX_BATCH_ROWS = 8_192
MAX_UPSERT_ROWS = 4_096  # of one request; more are what sessions are for
MAX_FETCH = 1_000  # IDs of one fetch
MAX_FETCHED_FLOATS = 2_000_000  # of the vectors of one answer, 20 bytes each as JSON
MAX_PAGE = 10_000  # IDs of one page
MAX_ANSWER_LABELS = 1_000_000  # rows times k of one request
MAX_K = 10_000
MAX_EF = 10_000
MAX_SEARCHES_IN_FLIGHT = 1_024  # per index; more is answered 429
MAX_BYTES_IN_FLIGHT = 2 * MAX_BODY_BYTES  # of their queries; more is answered 429


def search_threads() -> int:
    """Threads of a searcher. Two at least: one long batch must not hold up every other search."""
    return max(2, round(container_limits().cpus))


def builder_threads() -> int:
    """Threads of a builder: one core stays with the searches."""
    return max(1, int(container_limits().cpus) - 1)
