"""Pure decisions: a snapshot of the world goes in, actions, conditions and a status come out.

Nothing here reads a clock, draws a random number or calls anybody; so every decision is a table in the tests.
"""
