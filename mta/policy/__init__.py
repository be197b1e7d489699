"""Decisions that need no memory: which rule a queue gets, who may send, what a reply does, when to try again. Pure."""
