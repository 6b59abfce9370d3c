"""`make demo`: the operator at work on a real cluster of this machine, with data that a person can read.

`__main__` makes the machine and the cluster ready and starts `story` inside the cluster's namespaces; the story does
only what a user would do: Helm, kubectl, and HTTP to the pods. It checks what it shows, and fails loudly.
"""
