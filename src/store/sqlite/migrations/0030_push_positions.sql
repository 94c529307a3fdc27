-- From which position on a device has been registered, in place of since when by the clock of the machine: what is registered already is
-- told of all that nobody has looked at.
ALTER TABLE push_devices DROP COLUMN since;
ALTER TABLE push_devices ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
