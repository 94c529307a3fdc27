-- The epochs of this file (see `store::epochs`): one for each time a server has opened it. The current one has no end.
CREATE TABLE epochs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    epoch  BLOB NOT NULL UNIQUE CHECK (length(epoch) = 8),
    -- The last position that is still good.
    until  INTEGER
) STRICT;

-- What is written to find out whether the file can be written again: one row.
CREATE TABLE probe (
    only    INTEGER PRIMARY KEY CHECK (only = 1),
    content BLOB NOT NULL
) STRICT;
