"""IO: the clock, sockets, files, threads and the log. Thin: it holds no rules of mail."""
