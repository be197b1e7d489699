"""The heart: which entry goes next over which connection, and why the others wait. Pure: facts in, actions out."""
