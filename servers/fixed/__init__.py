"""The servers of broken/, made right: the smallest change that does it.  `diff servers/broken/NAME.py servers/fixed/NAME.py` shows it."""
