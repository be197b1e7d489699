-- The licence server's books. Times are seconds since 1970 (UTC); `envelope` and `body` are the exact bytes that came or went.

-- One row a revision; the newest whose term has begun counts.
CREATE TABLE license (
    license_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    envelope BLOB NOT NULL,
    imported_at INTEGER NOT NULL,
    PRIMARY KEY (license_id, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE account (
    license_id TEXT PRIMARY KEY,
    fence INTEGER NOT NULL,
    taken INTEGER NOT NULL,
    nodes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE activation (
    activation_id TEXT PRIMARY KEY,
    license_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    node_pub BLOB NOT NULL,
    server_class TEXT NOT NULL,
    role TEXT NOT NULL,
    seats INTEGER NOT NULL,
    label TEXT NOT NULL,
    fp TEXT NOT NULL,
    version TEXT NOT NULL,
    activated_at INTEGER NOT NULL,
    valid_until INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    heard INTEGER NOT NULL,
    asked_sha256 TEXT NOT NULL,
    asked_wall INTEGER NOT NULL,
    released_at INTEGER,
    left_sha256 TEXT NOT NULL,
    offer_epoch INTEGER NOT NULL,
    offer_token TEXT NOT NULL,
    offer_reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX activation_seats ON activation (license_id) WHERE released_at IS NULL;

CREATE TABLE node_state (
    activation_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    cum INTEGER NOT NULL,
    token TEXT NOT NULL,
    head TEXT NOT NULL,
    answered_sha256 TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    reported_at INTEGER NOT NULL,
    PRIMARY KEY (activation_id, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE last_response (
    activation_id TEXT PRIMARY KEY,
    request_sha256 TEXT NOT NULL,
    status INTEGER NOT NULL,
    body BLOB NOT NULL,
    envelope BLOB NOT NULL
) STRICT;

-- The last report of each day, for an audit: the node's own signature over its figures. Today's stands in last_response.
CREATE TABLE evidence (
    activation_id TEXT NOT NULL,
    day TEXT NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (activation_id, day)
) STRICT;

CREATE TABLE usage_day (
    license_id TEXT NOT NULL,
    activation_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    day TEXT NOT NULL,
    emails INTEGER NOT NULL,
    PRIMARY KEY (activation_id, epoch, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_by_day ON usage_day (license_id, day);

-- `reserved` is the sum of emails - used over the period's open leases; kept here so that a grant reads one row.
CREATE TABLE pool (
    license_id TEXT NOT NULL,
    period TEXT NOT NULL,
    used INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    PRIMARY KEY (license_id, period)
) STRICT, WITHOUT ROWID;

CREATE TABLE lease (
    id TEXT PRIMARY KEY,
    license_id TEXT NOT NULL,
    activation_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    period TEXT NOT NULL,
    emails INTEGER NOT NULL,
    used INTEGER NOT NULL,
    use_until INTEGER NOT NULL,
    state TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX lease_open ON lease (activation_id) WHERE state = 'open';
CREATE INDEX lease_expiry ON lease (license_id, use_until) WHERE state = 'open';

-- Seats that were another node's before: at most ten in thirty days.
CREATE TABLE seat_move (
    id INTEGER PRIMARY KEY,
    license_id TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX seat_move_at ON seat_move (license_id, at);

-- When epochs were opened after a rewind: the second within a day is a clone.
CREATE TABLE swap (
    id INTEGER PRIMARY KEY,
    activation_id TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX swap_at ON swap (activation_id, at);

CREATE TABLE finding (
    id INTEGER PRIMARY KEY,
    license_id TEXT NOT NULL,
    activation_id TEXT NOT NULL,
    code TEXT NOT NULL,
    detail TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    times INTEGER NOT NULL,
    cleared_at INTEGER,
    cleared_by TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX finding_open ON finding (license_id, activation_id, code) WHERE cleared_at IS NULL;

CREATE TABLE revocation (
    number INTEGER PRIMARY KEY,
    envelope BLOB NOT NULL,
    imported_at INTEGER NOT NULL
) STRICT;

CREATE TABLE audit_log (
    number INTEGER PRIMARY KEY,
    record BLOB NOT NULL,
    prev TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;
