"""The reference servers, each one file to read alone.

A server is `serve(sys, listener, stop)`: it serves those who connect to the listening socket `listener` until the eventfd `stop` becomes
readable (nobody reads it, so every process and thread sees it), then closes what it opened, waits for its children and threads, and
returns.  It runs unchanged on the real kernel and on the fake one.

    blocking_echo   a process a connection         select_echo, poll_echo   one process, the old calls
    epoll_lt_echo   level-triggered: start here    epoll_et_echo            edge-triggered: remember every edge
    prefork_echo    processes, EPOLLEXCLUSIVE      threads_echo             threads, EPOLLONESHOT
    http_h11        HTTP/1.1 over epoll            client                   one that says hello
    broken/         what goes wrong
"""
