"""The loop: a key from the queue, then gather → decide → execute → summarize → one status apply.

Invariant: nothing is remembered from one reconcile to the next that could not be read again, so the operator may be
killed between any two calls. What the watchlist holds only makes reconciles come sooner.
"""
