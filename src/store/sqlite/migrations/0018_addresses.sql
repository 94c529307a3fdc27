-- Addresses that nobody registers with: those of members who have left and had shown that the address was theirs.

-- What is random and stays: the key that the addresses are hashed with, once there is one.
CREATE TABLE secrets (
    name TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE barred_addresses (
    hash BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
