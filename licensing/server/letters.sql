-- Whom a licence's notices go to by mail: the customer's billing contacts.
CREATE TABLE contact (
    license_id TEXT NOT NULL,
    mailbox TEXT NOT NULL,
    PRIMARY KEY (license_id, mailbox)
) STRICT, WITHOUT ROWID;

-- Each notice once to each recipient: what was settled (sent, or given up) stays, so that it is not written again.
CREATE TABLE letter (
    notice TEXT NOT NULL,
    recipient TEXT NOT NULL,
    license_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    settled_at INTEGER,
    failure TEXT NOT NULL,
    PRIMARY KEY (notice, recipient)
) STRICT, WITHOUT ROWID;
CREATE INDEX letter_due ON letter (next_at) WHERE settled_at IS NULL;
