-- Mail of each kind in the order in which it is due: what concerns members is taken before what strangers have written.
CREATE INDEX mail_by_kind ON mail (kind, due);
