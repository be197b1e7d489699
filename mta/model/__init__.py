"""Words: the nouns every floor above speaks in. Pure values, no behaviour beyond their own text."""
