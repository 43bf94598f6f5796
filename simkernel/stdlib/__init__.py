"""Python's own modules on a fake machine, for programs that nobody changed."""
