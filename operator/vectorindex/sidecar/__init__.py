"""The sidecar: vector indexes over HTTP, with the graphs and the builds in processes of their own.

- The **front** (``__main__``, ``app``, ``routes_*``, ``catalog``, ``index``) answers HTTP. It holds each index's store
  in a thread (``writer``), and never hnswlib.
- A **searcher** (``searcher``) holds the graphs of one view of one index; ``serving`` says which one serves,
  ``searcher_client`` and ``ipc`` speak to it.
- A **builder** (``builder``) makes one segment; ``build`` runs it, ``swap`` puts what it made in place, ``operations``
  keeps the order and the record.
"""
