-- How many entries each participant has sent, up to every 32nd entry and up to the newest one: what a member has not read
-- follows from two of these, however much it is. `tally.rs` has the form. What is there already gets its tallies in the
-- same transaction, so a server that is killed meanwhile begins again.
ALTER TABLE entries ADD COLUMN tally BLOB;
ALTER TABLE conversations ADD COLUMN tally BLOB;
