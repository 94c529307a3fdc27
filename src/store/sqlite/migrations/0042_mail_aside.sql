-- What was set aside has turns of its own: a stretch of them for what strangers have written, for what was made for who has not shown that the
-- address is theirs, for members, and for what was made for members.
UPDATE mail SET turn = CASE turn WHEN -2 THEN -3 WHEN -3 THEN -4 WHEN -4 THEN -2 ELSE -1 END * 1099511627776 WHERE turn < 0;
-- What was made for members takes turns, too.
UPDATE mail SET turn = 1125899906842624 WHERE turn = 0 AND kind <> 'forgot_password';
