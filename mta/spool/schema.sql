-- One spool, of one worker. Times are seconds since the epoch. Ids never repeat in a spool's life.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- `due` is the earliest time at which anyone must look at the queue: a lower bound while it is in a scheduler's memory, 0 when
-- mail came for it since, NULL when nothing in it can become due (all held).
CREATE TABLE queue (
    id INTEGER PRIMARY KEY,
    domain TEXT NOT NULL,
    vmta TEXT NOT NULL,
    due REAL,
    next_at REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    mode TEXT NOT NULL DEFAULT 'normal',
    reason TEXT NOT NULL DEFAULT '',
    paused INTEGER NOT NULL DEFAULT 0,
    UNIQUE (domain, vmta)
) STRICT;
CREATE INDEX queue_due ON queue (due, id) WHERE paused = 0;
CREATE INDEX queue_paused ON queue (id) WHERE paused = 1;

CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    held INTEGER NOT NULL DEFAULT 0,
    hold_reason TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX job_held ON job (id) WHERE held = 1;

-- The large columns stand last: a read of the others stops before them.
CREATE TABLE message (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at REAL NOT NULL,
    sender TEXT NOT NULL,
    size INTEGER NOT NULL,
    vmta TEXT NOT NULL,
    job TEXT NOT NULL,
    envid TEXT NOT NULL,
    ret TEXT NOT NULL,
    content INTEGER NOT NULL,
    source_kind TEXT NOT NULL,
    source_ip TEXT NOT NULL,
    source_name TEXT NOT NULL,
    user TEXT NOT NULL,
    licence_held_s REAL NOT NULL,
    body_file TEXT NOT NULL,
    prefix BLOB NOT NULL,
    body BLOB
) STRICT;
CREATE INDEX message_body_file ON message (number, body_file) WHERE body_file <> '';

CREATE TABLE recipient (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    job INTEGER NOT NULL,
    size INTEGER NOT NULL,
    address TEXT NOT NULL,
    due REAL NOT NULL,
    notify TEXT NOT NULL,
    orcpt TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    first_attempt REAL NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0,
    hold_reason TEXT NOT NULL DEFAULT '',
    crashes INTEGER NOT NULL DEFAULT 0,
    may_repeat INTEGER NOT NULL DEFAULT 0,
    reply TEXT NOT NULL DEFAULT '',
    release_at REAL NOT NULL DEFAULT 0,
    priority INTEGER NOT NULL DEFAULT 0
) STRICT;
-- Beyond its order it holds what the counts need, so that counting 100,000 recipients reads no row.
CREATE INDEX recipient_due ON recipient (queue, priority, due, id, message, size, job) WHERE held = 0;
CREATE INDEX recipient_held ON recipient (queue, message, size) WHERE held = 1;
CREATE INDEX recipient_message ON recipient (message);

-- What senders are still to be told of recipients; each row goes in the transaction that accepts the notice. `data`: see `mta.model.told`.
-- `digest`: whom a digest will tell; its message is no longer kept, and `message` stands for its number only.
CREATE TABLE notice (
    entry INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    at REAL NOT NULL,
    data BLOB NOT NULL,
    digest TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX notice_at ON notice (at) WHERE digest = '';
CREATE INDEX notice_message ON notice (message) WHERE digest = '';
CREATE INDEX notice_digest ON notice (digest) WHERE digest <> '';

CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    data BLOB NOT NULL
) STRICT;
