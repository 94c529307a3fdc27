-- The log of a conversation as a chain: each entry knows the position of the one before it, and the conversation that of
-- its newest one. An index over all of (conversation, seq) cost more than everything else that a message wrote, because
-- nearly every message touched a page of its own; now every 32nd entry of a conversation does, which is where a walk along
-- the chain begins.
ALTER TABLE entries ADD COLUMN previous INTEGER;
ALTER TABLE conversations ADD COLUMN newest INTEGER;

UPDATE entries SET previous = chain.previous
FROM (SELECT position, lag(position) OVER (PARTITION BY conversation ORDER BY seq) AS previous FROM entries) AS chain
WHERE chain.position = entries.position;

UPDATE conversations SET newest =
    (SELECT position FROM entries WHERE conversation = conversations.key AND seq = conversations.last_seq);

DROP INDEX entries_by_seq;
CREATE UNIQUE INDEX entries_by_seq ON entries (conversation, seq) WHERE seq % 32 = 0;
