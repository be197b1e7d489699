"""The control socket: how the operator speaks with a running daemon. `protocol` is the lines,
`server` and `client` the two ends.

Nothing is imported here: the command line pays only for the client.
"""
