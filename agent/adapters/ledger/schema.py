"""The ledger's tables, as numbered migrations: number N is the N-th string, and none is ever changed.

Times are epoch seconds in UTC, sizes bytes, durations seconds. File and folder names are in the printable
form of `agent.rules.words.printable`; folders are relative to their location, "" being the location itself.
"""

MIGRATIONS = (
    """
CREATE TABLE folder(            -- a folder that holds archives; with a manifest it is one backup
  location TEXT NOT NULL, folder TEXT NOT NULL,
  tier TEXT NOT NULL, backup TEXT NOT NULL, engine TEXT NOT NULL,
  started REAL, ended REAL, failed INTEGER NOT NULL DEFAULT 0,
  manifest TEXT, problem TEXT NOT NULL DEFAULT '',
  PRIMARY KEY(location, folder)
) STRICT, WITHOUT ROWID;
CREATE TABLE archive(
  id INTEGER PRIMARY KEY,
  location TEXT NOT NULL, folder TEXT NOT NULL, name TEXT NOT NULL,
  inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
  state TEXT NOT NULL, level TEXT NOT NULL, why TEXT NOT NULL,
  reading TEXT,                 -- JSON of the last full reading
  arrived REAL NOT NULL, checked REAL, vanished REAL,
  UNIQUE(location, folder, name)
) STRICT;
CREATE TABLE sums(              -- checksum files, so that each is read once
  location TEXT NOT NULL, folder TEXT NOT NULL, name TEXT NOT NULL,
  inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
  problem TEXT NOT NULL DEFAULT '',
  PRIMARY KEY(location, folder, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE promise(           -- what the checksum files promise about each archive
  location TEXT NOT NULL, folder TEXT NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL,
  sha256 TEXT, size INTEGER,
  PRIMARY KEY(location, folder, name, source)
) STRICT, WITHOUT ROWID;
CREATE INDEX promise_source ON promise(location, folder, source);
CREATE TABLE verdict(           -- every judgement ever made, for the report
  id INTEGER PRIMARY KEY,
  location TEXT NOT NULL, folder TEXT NOT NULL, name TEXT NOT NULL,
  at REAL NOT NULL, state TEXT NOT NULL, level TEXT NOT NULL, why TEXT NOT NULL,
  seconds REAL NOT NULL, size INTEGER NOT NULL
) STRICT;
CREATE INDEX verdict_at ON verdict(at);
CREATE TABLE run(
  id INTEGER PRIMARY KEY,
  job TEXT NOT NULL, subject TEXT NOT NULL DEFAULT '', slot REAL,
  pid INTEGER, boot TEXT NOT NULL DEFAULT '', started REAL NOT NULL, ended REAL,
  outcome TEXT NOT NULL, exit_code INTEGER, why TEXT NOT NULL DEFAULT '',
  figures TEXT NOT NULL DEFAULT '{}', output TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX run_started ON run(started);
CREATE TABLE slot(job TEXT PRIMARY KEY, last REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE incident(
  id INTEGER PRIMARY KEY,
  rule TEXT NOT NULL, subject TEXT NOT NULL, level INTEGER NOT NULL,
  why TEXT NOT NULL, hint TEXT NOT NULL,
  since REAL NOT NULL, opened REAL, told REAL, resolved REAL
) STRICT;
CREATE UNIQUE INDEX incident_open ON incident(rule, subject) WHERE resolved IS NULL;
CREATE INDEX incident_resolved ON incident(resolved);
CREATE TABLE notice(            -- one message to one target
  id INTEGER PRIMARY KEY,
  target TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL, created REAL NOT NULL, next_try REAL NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, delivered REAL, error TEXT NOT NULL DEFAULT '',
  fallback_of INTEGER REFERENCES notice(id)
) STRICT;
CREATE INDEX notice_due ON notice(next_try) WHERE state IN ('waiting', 'sending');
CREATE UNIQUE INDEX notice_once ON notice(target, kind, body) WHERE kind = 'report';
CREATE TABLE news(              -- what a notice tells: one change of one incident, as it was then
  id INTEGER PRIMARY KEY,
  notice INTEGER NOT NULL REFERENCES notice(id), incident INTEGER NOT NULL REFERENCES incident(id),
  change TEXT NOT NULL, at REAL NOT NULL, level INTEGER NOT NULL, why TEXT NOT NULL
) STRICT;
CREATE INDEX news_notice ON news(notice);
CREATE INDEX news_incident ON news(incident);
CREATE TABLE sample(
  location TEXT NOT NULL, at REAL NOT NULL,
  total INTEGER NOT NULL, used INTEGER NOT NULL, free INTEGER NOT NULL,
  used_percent REAL NOT NULL, inodes_percent REAL, state TEXT NOT NULL, why TEXT NOT NULL,
  PRIMARY KEY(location, at)
) STRICT, WITHOUT ROWID;
CREATE TABLE pulse(part TEXT PRIMARY KEY, at REAL NOT NULL, words TEXT NOT NULL) STRICT, WITHOUT ROWID
""",
    """
CREATE TABLE asked(             -- snapshots asked of a Qdrant server that may still lie there
  id INTEGER PRIMARY KEY,
  url TEXT NOT NULL, collection TEXT NOT NULL, asked REAL NOT NULL,
  beside TEXT NOT NULL,         -- JSON: the snapshots that were there already, by name
  name TEXT                     -- what the server called it; NULL while that is not known
) STRICT
""",
    """
CREATE TABLE drill(             -- one collection of one backup, rehearsed once
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL, seconds REAL NOT NULL,
  backup TEXT NOT NULL, tier TEXT NOT NULL, collection TEXT NOT NULL, location TEXT NOT NULL,
  depth TEXT NOT NULL,          -- light or full
  state TEXT NOT NULL,          -- passed, failed or inconclusive
  level TEXT NOT NULL, why TEXT NOT NULL, engine TEXT NOT NULL,
  points INTEGER, low INTEGER, high INTEGER,
  asked INTEGER NOT NULL, matched INTEGER NOT NULL,
  raw_bytes INTEGER NOT NULL,
  evidence TEXT NOT NULL        -- JSON
) STRICT;
CREATE INDEX drill_collection ON drill(collection, at);
CREATE INDEX drill_at ON drill(at);
CREATE TABLE drilled(           -- the archives of a drill, by what they hold: a copy elsewhere is proved with them
  drill INTEGER NOT NULL REFERENCES drill(id), sha256 TEXT NOT NULL, file TEXT NOT NULL,
  PRIMARY KEY(drill, sha256)
) STRICT, WITHOUT ROWID;
CREATE INDEX drilled_sha256 ON drilled(sha256);
CREATE TABLE restored(          -- a collection that is being restored, or was
  id INTEGER PRIMARY KEY,
  url TEXT NOT NULL, target TEXT NOT NULL,
  backup TEXT NOT NULL, tier TEXT NOT NULL, collection TEXT NOT NULL,
  state TEXT NOT NULL,          -- begun, done or failed
  replaced INTEGER NOT NULL,    -- whether there was something in its place
  pre_restore TEXT,             -- the backup of what there was
  began REAL NOT NULL, ended REAL, raw_bytes INTEGER NOT NULL, points INTEGER, why TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX restored_target ON restored(url, target)
""",
    """
CREATE TABLE deed(              -- what was done to backups: who, when and why; written down before it is done
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL, who TEXT NOT NULL,
  kind TEXT NOT NULL,           -- a word of agent.adapters.ledger.deeds.KINDS
  location TEXT NOT NULL,       -- '' where it concerns every location
  path TEXT NOT NULL,           -- inside the location, of a backup tier/id
  why TEXT NOT NULL,
  ended REAL, outcome TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX deed_at ON deed(at);
CREATE INDEX deed_open ON deed(kind) WHERE ended IS NULL;
CREATE INDEX deed_path ON deed(location, path);
CREATE TABLE seal(              -- what archives and manifests were when they were last proved
  location TEXT NOT NULL, folder TEXT NOT NULL, name TEXT NOT NULL,
  inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
  sha256 TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY(location, folder, name)
) STRICT, WITHOUT ROWID;
INSERT INTO seal SELECT location, folder, name, inode, size, mtime_ns, ctime_ns,
  json_extract(reading, '$.sha256'), checked FROM archive
  WHERE state = 'good' AND vanished IS NULL AND reading IS NOT NULL AND checked IS NOT NULL;
CREATE TABLE since(what TEXT PRIMARY KEY, at REAL NOT NULL) STRICT, WITHOUT ROWID;
ALTER TABLE folder ADD COLUMN sha256 TEXT NOT NULL DEFAULT '';
ALTER TABLE folder ADD COLUMN digest TEXT NOT NULL DEFAULT '';
DELETE FROM sums WHERE name = 'manifest.json';
CREATE TABLE pin(               -- backups that somebody wants to stay
  tier TEXT NOT NULL, backup TEXT NOT NULL,
  at REAL NOT NULL, who TEXT NOT NULL, until REAL, because TEXT NOT NULL,
  PRIMARY KEY(tier, backup)
) STRICT, WITHOUT ROWID;
CREATE TABLE made(              -- each backup with a manifest that was ever known; it outlives the backup
  tier TEXT NOT NULL, backup TEXT NOT NULL, started REAL NOT NULL,
  whole INTEGER NOT NULL,       -- whether it was to hold every collection
  size INTEGER NOT NULL,        -- of all its files
  failed TEXT NOT NULL,         -- JSON: collections that it should hold and does not
  aliases TEXT NOT NULL,        -- JSON: alias to collection
  PRIMARY KEY(tier, backup)
) STRICT, WITHOUT ROWID;
CREATE INDEX made_started ON made(started);
CREATE TABLE figure(            -- what each backup of a collection came to; it outlives the backup
  tier TEXT NOT NULL, backup TEXT NOT NULL, collection TEXT NOT NULL,
  started REAL NOT NULL, points INTEGER, raw_size INTEGER, stored_size INTEGER, seconds REAL,
  PRIMARY KEY(tier, backup, collection)
) STRICT, WITHOUT ROWID;
CREATE INDEX figure_started ON figure(started);
CREATE TABLE ping(              -- what the watcher outside has been told of a run: that it began, that it is over
  run INTEGER PRIMARY KEY,
  begun INTEGER NOT NULL DEFAULT 0, over INTEGER NOT NULL DEFAULT 0,
  tries INTEGER NOT NULL DEFAULT 0, next_try REAL NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE computed(          -- what is dear to compute, with what it was computed from
  name TEXT PRIMARY KEY, at REAL NOT NULL, basis TEXT NOT NULL, told TEXT NOT NULL
) STRICT, WITHOUT ROWID
""",
)
