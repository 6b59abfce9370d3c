"""One vector index: its files, its store, its graphs.

Synchronous Python over numpy, hnswlib and SQLite; it knows neither asyncio nor HTTP nor processes. The sidecar runs
its three sides in three kinds of process:

- the **front** holds :class:`~vectorindex.engine.store.Store` (the only SQLite connection), the ingest session and the
  mapped ID files, never hnswlib;
- a **searcher** holds :class:`~vectorindex.engine.view.View` (the graphs), never SQLite;
- a **builder** runs :func:`~vectorindex.engine.build.build` once and ends.
"""
