"""The one exception of this package: its text is a whole message for the person in front of the screen."""


class DevClusterError(Exception):
    """Something is missing or did not come up; the message says what, and what to do about it."""
