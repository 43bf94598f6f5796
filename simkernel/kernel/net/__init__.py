"""Sockets and the loopback device."""
