-- The version and the cost of the hashes of passwords: by the highest one is told how long a wrong password takes.
CREATE INDEX members_by_cost ON members (substr(password_hash, 1, 6));
