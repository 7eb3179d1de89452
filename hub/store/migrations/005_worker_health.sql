-- What the operator wants of a worker, and how it has fared: kept so that a restart forgets neither.
ALTER TABLE workers ADD COLUMN weight INTEGER NOT NULL DEFAULT 1;
ALTER TABLE workers ADD COLUMN health TEXT NOT NULL DEFAULT '{}';  -- JSON of hub/rules/health.py
