"""Servers with bugs; each names its own in its docstring, and at each line with `# bug:`."""
