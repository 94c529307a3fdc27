-- Recommendations, and what each member has cost the AI service today.

CREATE TABLE recommendations (
    key                 INTEGER PRIMARY KEY,
    -- Follows from the member and what is recommended: the same one is stored once.
    id                  BLOB    NOT NULL UNIQUE CHECK (length(id) = 12),
    user                INTEGER NOT NULL REFERENCES members (key) ON DELETE CASCADE,
    recommendation_type TEXT    NOT NULL CHECK (recommendation_type IN ('connect', 'complete_profile')),
    -- JSON, as the API shows it.
    recommendation_data TEXT    NOT NULL,
    -- The member that is recommended, if it is one.
    subject             INTEGER REFERENCES members (key) ON DELETE CASCADE,
    confidence_score    REAL    NOT NULL CHECK (confidence_score BETWEEN 0 AND 1),
    source              TEXT    NOT NULL CHECK (source IN ('local', 'remote')),
    -- A fingerprint of what it was made from.
    basis               BLOB    NOT NULL CHECK (length(basis) = 16),
    created_at          INTEGER NOT NULL,
    refreshed_at        INTEGER NOT NULL,
    is_applied          INTEGER NOT NULL DEFAULT 0 CHECK (is_applied IN (0, 1)),
    dismissed_at        INTEGER
) STRICT;

CREATE INDEX recommendations_by_user ON recommendations (user, subject);
CREATE INDEX recommendations_by_subject ON recommendations (subject);

CREATE TABLE ai_budgets (
    member INTEGER PRIMARY KEY REFERENCES members (key) ON DELETE CASCADE,
    -- Days since the Unix epoch, UTC.
    day    INTEGER NOT NULL,
    spent  INTEGER NOT NULL
) STRICT;

-- Whom one could recommend: the newest of a tier.
CREATE INDEX members_by_tier ON members (tier) WHERE is_active = 1;
