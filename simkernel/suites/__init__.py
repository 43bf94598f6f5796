"""The test suites of others, as they are and from where they are installed, on the fake kernel and beside it on the real one.

catalog.py has the suites, and the reasons for which a test of theirs can't run.  worker.py runs a suite in a process of its own, once with
Python's own modules and once in a world on the fake kernel; drive.py starts and watches the workers, and report.py compares.
"""
