"""What Linux does, one named test a fact: each body is written once and runs on every world (the real kernel, the fake one).

"Fact 75" and "Raw values" in a docstring name the row, or the section, of linux-facts.md; a test without one adds a finer point that the
running kernel showed.  Where the list and the kernel differ, the kernel is right, and the docstring says so.
"""
