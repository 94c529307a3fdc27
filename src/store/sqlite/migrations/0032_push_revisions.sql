-- Which registration of an address is meant, whatever clocks show: each gets the next number. What was registered before is older than all of them.
ALTER TABLE push_devices ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE push_place ADD COLUMN registrations INTEGER NOT NULL DEFAULT 0;
-- How often a task was taken without it being known what became of it.
ALTER TABLE push_tasks ADD COLUMN unsettled INTEGER NOT NULL DEFAULT 0;
-- Of what was in hand when the server before this one ended nobody knows it.
UPDATE push_tasks SET unsettled = 1 WHERE attempts > 0;
