"""The models of the sidecar's HTTP API, for both of its ends.

Nothing here does I/O and nothing here imports the rest of the project: operator and sidecar agree by importing the
same classes. Unknown fields are ignored when read, so that a newer end can speak to an older one; a field that is
unset is not sent.
"""
