"""The operator's file: its schema with a help text for every key, how it is read and checked – all
mistakes told at once – and the reference pages rendered from the schema. The daemon's floors below
never see it: they get the values of `mta.policy.rules`.
"""
