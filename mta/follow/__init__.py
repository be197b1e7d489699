"""The followers: readers of the events behind the spool, each with a saved place of its own.

`follower` reads, `cursors` remembers, `records` makes an event a record, `accounting` writes it.
Where the spools are in other processes: `feed` there and `remote` here, in the language of `words`.
"""
