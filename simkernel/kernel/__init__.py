"""The fake kernel: every file is a Linux noun, and functions keep their Linux names."""
