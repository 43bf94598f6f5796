"""The twins of servers/broken, each made right by the smallest change: ``diff servers/broken/NAME.py servers/fixed/NAME.py`` shows it."""
