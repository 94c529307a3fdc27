-- Which entry of the same conversation a message answers: its `seq`. It takes a byte of each row that answers none, and rows that are
-- there already none. Without a check, for which all of them would be read.
ALTER TABLE entries ADD COLUMN reply_to INTEGER;
