"""The durable state of a worker: messages, recipients, queues and events in one SQLite file, behind one door (`store`).

`words` the nouns of its contract · `database` opens and checks the file · `rows` text and rows of SQL · `writer` one transaction
· `commit` the thread: many waiters, one fsync · `queries` reads · `outbox` events · `changes` chunked mass changes · `inflight`
what a crash interrupted · `spill` large bodies · `store` the door · `check` verification offline.
"""
