"""What the pytest plugin tells a simulated test.  Small, so that the plugin costs a pytest that simulates nothing next to nothing."""


class Session:
    """Set by the plugin for the test that runs."""

    # The plugin shows the story in a section of its own.
    plugin = False
    # --simkernel-replay
    replay: str | None = None
    # How the running test is named on pytest's command line.
    nodeid: str = ""
