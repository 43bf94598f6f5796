"""What Linux does, one named test a fact: each body is written once and runs on every world (the real kernel, the fake one)."""
