-- The ledger's schema, in versions. Opening a ledger for writing applies, each in one transaction, the versions that
-- it does not have yet. A published version is never edited: changes are a new "-- version N" section at the end.
-- New columns of old tables must be nullable: a NULL column does not enter a record's digest, so old records stay true.

-- version 1

-- One line a record, over all tables. row_sha256: digest of the record itself; sha256: digest of this line, which
-- covers the line before it. An edited, deleted, inserted or reordered record breaks it (see journal.py).
CREATE TABLE journal (
    seq BIGINT PRIMARY KEY,
    table_name VARCHAR NOT NULL,
    row_sha256 VARCHAR NOT NULL,
    previous VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL
);

CREATE TABLE runs (
    seq BIGINT PRIMARY KEY, recorded_at TIMESTAMP NOT NULL,
    run_id VARCHAR NOT NULL,
    tool VARCHAR NOT NULL,
    dagster_run_id VARCHAR NOT NULL,
    host VARCHAR NOT NULL,
    username VARCHAR NOT NULL,
    code_version VARCHAR NOT NULL,
    python_version VARCHAR NOT NULL,
    packages JSON NOT NULL
);

CREATE TABLE batches (
    seq BIGINT PRIMARY KEY, recorded_at TIMESTAMP NOT NULL,
    batch_key VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    source_path VARCHAR NOT NULL, source_sha256 VARCHAR NOT NULL,
    options JSON NOT NULL,
    samples_path VARCHAR NOT NULL, samples_sha256 VARCHAR NOT NULL,
    rejected_path VARCHAR, rejected_sha256 VARCHAR,
    rows_read BIGINT NOT NULL,
    readable BIGINT NOT NULL,
    rejected_rows BIGINT NOT NULL,
    run_id VARCHAR NOT NULL,
    CHECK (rows_read = readable + rejected_rows)
);

CREATE TABLE scans (
    seq BIGINT PRIMARY KEY, recorded_at TIMESTAMP NOT NULL,
    batch_key VARCHAR NOT NULL,
    source_sha256 VARCHAR NOT NULL,
    samples_sha256 VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    model_fingerprint VARCHAR NOT NULL,
    tokenizer_fingerprint VARCHAR NOT NULL,
    scoring JSON NOT NULL,
    score_key VARCHAR NOT NULL,
    scores_path VARCHAR NOT NULL, scores_sha256 VARCHAR NOT NULL,
    scored BIGINT NOT NULL,
    unscored BIGINT NOT NULL,
    device VARCHAR NOT NULL,
    started_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP NOT NULL,
    run_id VARCHAR NOT NULL
);

CREATE TABLE thresholds (
    seq BIGINT PRIMARY KEY, recorded_at TIMESTAMP NOT NULL,
    scan BIGINT NOT NULL,
    batch_key VARCHAR NOT NULL,
    config JSON NOT NULL,
    tau DOUBLE NOT NULL,
    method VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    n BIGINT NOT NULL,
    suspects BIGINT NOT NULL,
    bandwidth DOUBLE,
    left_peak DOUBLE,
    right_peak DOUBLE,
    valley DOUBLE,
    valley_ratio DOUBLE,
    weak_evidence BOOLEAN NOT NULL,
    grid DOUBLE[] NOT NULL,
    density DOUBLE[] NOT NULL,
    details JSON NOT NULL,
    run_id VARCHAR NOT NULL
);

CREATE TABLE decisions (
    seq BIGINT PRIMARY KEY, recorded_at TIMESTAMP NOT NULL,
    scan BIGINT NOT NULL,
    threshold BIGINT NOT NULL,
    batch_key VARCHAR NOT NULL,
    decision_key VARCHAR NOT NULL,
    policy VARCHAR NOT NULL,
    settings JSON NOT NULL,
    verdicts_path VARCHAR NOT NULL, verdicts_sha256 VARCHAR NOT NULL,
    clean BIGINT NOT NULL,
    flagged BIGINT NOT NULL,
    unscored BIGINT NOT NULL,
    overrides JSON NOT NULL,
    overrides_digest VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL
);

CREATE TABLE gate_results (
    seq BIGINT PRIMARY KEY, recorded_at TIMESTAMP NOT NULL,
    batch_key VARCHAR NOT NULL,
    decision BIGINT NOT NULL,
    verdicts_sha256 VARCHAR NOT NULL,
    limits JSON NOT NULL,
    inputs_sha256 VARCHAR NOT NULL,
    passed BOOLEAN NOT NULL,
    checks JSON NOT NULL,
    run_id VARCHAR NOT NULL
);

CREATE TABLE gate_acceptances (
    seq BIGINT PRIMARY KEY, recorded_at TIMESTAMP NOT NULL,
    batch_key VARCHAR NOT NULL,
    inputs_sha256 VARCHAR NOT NULL,
    made_by VARCHAR NOT NULL,
    reason VARCHAR NOT NULL
);

CREATE TABLE overrides (
    seq BIGINT PRIMARY KEY, recorded_at TIMESTAMP NOT NULL,
    sample_id VARCHAR NOT NULL,
    action VARCHAR NOT NULL CHECK (action IN ('release', 'flag', 'unset')),
    made_by VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    batch_key VARCHAR  -- NULL: in every batch
);

CREATE TABLE outputs (
    seq BIGINT PRIMARY KEY, recorded_at TIMESTAMP NOT NULL,
    batch_key VARCHAR NOT NULL,
    decision BIGINT NOT NULL,
    kind VARCHAR NOT NULL,
    file_path VARCHAR NOT NULL, file_sha256 VARCHAR NOT NULL,
    rows BIGINT,
    run_id VARCHAR NOT NULL
);

-- Views for SQL users (docs/ledger.md). Scores and verdicts are Parquet files beside the ledger; `verdicts` reads
-- them all, and is pointed at the store's folder by views.py once there is a first file (this one is its shape).
CREATE VIEW verdicts AS
SELECT
    NULL::BIGINT AS decision, NULL::BIGINT AS scan, NULL::VARCHAR AS batch_key, NULL::BIGINT AS row,
    NULL::VARCHAR AS sample_id, NULL::DOUBLE AS entropy, NULL::INTEGER AS supervised_tokens, NULL::DOUBLE AS nll,
    NULL::VARCHAR AS verdict, NULL::VARCHAR[] AS reasons
WHERE false;

-- One line a threshold.
CREATE VIEW threshold_history AS
SELECT
    t.seq AS threshold, t.recorded_at, t.batch_key, t.scan, s.model, s.model_fingerprint, t.tau, t.method, t.reason,
    t.n, t.suspects, t.bandwidth, t.left_peak, t.right_peak, t.valley_ratio, t.weak_evidence, t.config
FROM thresholds AS t
JOIN scans AS s ON s.seq = t.scan;

-- One line a decision: what was found in a batch, by which model and settings, and what came of it.
CREATE VIEW batch_history AS
WITH gates AS (
    SELECT decision, arg_max(passed, seq) AS passed, arg_max(inputs_sha256, seq) AS inputs_sha256
    FROM gate_results GROUP BY decision
), clean_files AS (
    SELECT decision, arg_max(file_path, seq) AS path, arg_max(file_sha256, seq) AS sha256, arg_max(rows, seq) AS rows
    FROM outputs WHERE kind = 'clean' GROUP BY decision
)
SELECT
    d.batch_key, d.seq AS decision, d.scan, d.recorded_at,
    s.source_sha256, s.model, s.model_fingerprint, s.tokenizer_fingerprint, s.scoring,
    t.tau, t.method AS threshold_method, d.policy, d.clean, d.flagged, d.unscored,
    json_array_length(d.overrides) AS overrides,
    CASE
        WHEN g.passed THEN 'passed'
        WHEN g.inputs_sha256 IN (SELECT inputs_sha256 FROM gate_acceptances) THEN 'accepted'
        WHEN NOT g.passed THEN 'failed'
        ELSE 'never run'
    END AS gate,
    c.path AS clean_path, c.sha256 AS clean_sha256, c.rows AS clean_rows,
    d.run_id
FROM decisions AS d
JOIN scans AS s ON s.seq = d.scan
JOIN thresholds AS t ON t.seq = d.threshold
LEFT JOIN gates AS g ON g.decision = d.seq
LEFT JOIN clean_files AS c ON c.decision = d.seq;

-- One line a row and decision: filter on sample_id.
CREATE VIEW sample_history AS
SELECT
    v.sample_id, v.batch_key, v.row, v.decision, v.scan, d.recorded_at, s.model, s.model_fingerprint,
    v.entropy, t.tau, d.policy, v.verdict, v.reasons
FROM verdicts AS v
JOIN decisions AS d ON d.seq = v.decision
JOIN scans AS s ON s.seq = d.scan
JOIN thresholds AS t ON t.seq = d.threshold;

-- One line a row that was kept out of a clean file, with the decision that did it. `latest`: by the batch's last word.
CREATE VIEW removed_rows AS
SELECT h.*, h.decision = l.decision AS latest
FROM sample_history AS h
JOIN (SELECT batch_key, max(seq) AS decision FROM decisions GROUP BY batch_key) AS l ON l.batch_key = h.batch_key
WHERE h.verdict <> 'clean';

-- version 2

-- One line a file of scores in the cache, written before the file gets its name: no other file there is believed.
-- `cache`: its folder, which stands for the model and the scoring configuration.
CREATE TABLE score_files (
    seq BIGINT PRIMARY KEY, recorded_at TIMESTAMP NOT NULL,
    cache VARCHAR NOT NULL,
    file_path VARCHAR NOT NULL, file_sha256 VARCHAR NOT NULL,
    rows BIGINT NOT NULL,
    run_id VARCHAR NOT NULL
);

-- The gate limits that the store has of its own, the latest line; where there is none, those of the code.
CREATE TABLE limit_policies (
    seq BIGINT PRIMARY KEY, recorded_at TIMESTAMP NOT NULL,
    limits JSON NOT NULL,
    made_by VARCHAR NOT NULL,
    reason VARCHAR NOT NULL
);

-- Who let a batch be judged by limits looser than the store's own, and why; NULL where they were not.
ALTER TABLE gate_results ADD COLUMN loosened JSON;

-- What a person saw when accepting: counts, verdicts, limits, and the checks that had failed; NULL before version 2.
ALTER TABLE gate_acceptances ADD COLUMN accepted JSON;
ALTER TABLE batches ADD COLUMN truncated VARCHAR;  -- NULL: nothing showed that the source is cut short

-- version 3

-- How the rows were laid out, which text nobody read, and by which reader; NULL: by version 0.3.0.
ALTER TABLE batches ADD COLUMN reading JSON;

ALTER TABLE scans ADD COLUMN supervised_tokens BIGINT;  -- NULL before version 3

-- What a decision found beside its verdicts: rows that look like one attack, and remarks on the whole batch.
CREATE TABLE findings (
    seq BIGINT PRIMARY KEY, recorded_at TIMESTAMP NOT NULL,
    batch_key VARCHAR NOT NULL,
    decision BIGINT NOT NULL,
    groups JSON NOT NULL,
    remarks JSON NOT NULL,
    run_id VARCHAR NOT NULL
);

-- How the files of the store lie (paths.py, LAYOUT): 1 where an earlier version wrote them, until they are brought over.
CREATE TABLE store_layout (version INTEGER NOT NULL);
INSERT INTO store_layout SELECT CASE WHEN count(*) = 0 THEN 2 ELSE 1 END FROM batches;
ALTER TABLE overrides ADD COLUMN page VARCHAR;  -- NULL: not said on a review page
