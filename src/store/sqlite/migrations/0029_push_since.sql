-- Since when a device has been registered, whatever its address was: what was stored before is not pushed to it.
ALTER TABLE push_devices ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
UPDATE push_devices SET since = registered_at;
