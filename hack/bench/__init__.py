"""`make bench`: each target of the project as a figure measured here and now, beside raw hnswlib, usearch and faiss.

The sidecar is the real program, asked over HTTP; graphs are judged in the files that it wrote. Whatever a figure is a
ratio of was measured in the same run, with the same threads, and by a process of the same priority as a builder.
"""
