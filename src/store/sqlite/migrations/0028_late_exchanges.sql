-- The hash of the attempt that used a refresh token up: a request of that very attempt that arrives late gives no thief away.
ALTER TABLE refresh_tokens ADD COLUMN attempt BLOB;
