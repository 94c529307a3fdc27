-- Addresses of claims were hashed without a key until now. They live for two days: these are forgotten, and their uses come back all the same.
UPDATE links SET address = NULL WHERE address IS NOT NULL;
