-- In which form the content of an entry is stored. It takes a byte of each row, and rows that are there already none.

ALTER TABLE entries ADD COLUMN format INTEGER NOT NULL DEFAULT 1;
