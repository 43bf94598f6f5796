"""What stands for Python's C modules.  Each file is executed afresh in each World, under the name of the module that it stands for."""
