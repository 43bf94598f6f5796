"""The tests.  Those in properties/ can also be run as campaigns: python -m tests.properties.fuzz."""
