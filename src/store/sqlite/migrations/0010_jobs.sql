-- What follows from a change and must happen although the process may end before it has.

CREATE TABLE jobs (
    key TEXT NOT NULL PRIMARY KEY,
    -- What is to be done, as JSON.
    body TEXT NOT NULL,
    due INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    -- Drawn when the job is written, so that what finishes a former one leaves this one.
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX jobs_by_due ON jobs (due);
