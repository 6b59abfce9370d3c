"""`make chaos`: a real sidecar whose processes are killed at random moments, against a dictionary.

Three indexes, one for each metric, each used by one actor: ingest sessions in all modes, deletes, rebuilds, optimizes,
cancels. Meanwhile the front, a searcher or a builder is killed by SIGKILL, also while it starts. What was acknowledged
must be there, what was deleted must never be found again, and every operation must end; an exact search must find what
is in the dictionary, nothing else, and nearest first. Choices come from the seed, moments from the machine.
"""
