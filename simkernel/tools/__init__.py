"""Readers of a trace.  They know traces, not kernels."""
