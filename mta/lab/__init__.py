"""The simulated internet on loopback: a DNS server, receiving servers with scripted tempers, and a fast counting sink.

What `sluice demo` and the tests send to. Nothing here is part of the product's path, and nothing leaves 127.0.0.0/8.
"""
