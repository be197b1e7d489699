"""SMTP without IO: both roles of RFC 5321 as state machines. Bytes in, events out, bytes to send.

Sockets, clocks and rules about who may send what live above; here is only the protocol, so that
every dialogue, however its stream is cut, can be tested without a loop.
"""
