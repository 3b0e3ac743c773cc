-- Schema 4. Sent as one message, inside the transaction of `migrate`.
--
-- {schema} is a quoted identifier. Everything is named with it, in the bodies of functions too: what a
-- session's `search_path` says must not decide which records count. So no operator or function has arguments of other types
-- than the server's own: one for just these types, in a schema of the path, would be taken instead (`bigint * interval`).
-- Likewise in all other statements.

-- One row a record. No CHECK constraints: the server reads the text of each one anew for every row that is
-- written, and plans it: eight of them cost half as much as the row itself. What no release of this crate has
-- written is found out by its reader.
--
-- fillfactor: a record is updated once or twice in its life. With room on its page the new version
-- stays there, and for a renewal no index is written (a heap-only tuple).
--
-- schema_version: its default is what `migrate` and the first call of a process read. A release of this
-- crate refuses a number that it does not know. A default survives any dump of the table, and two bytes
-- here are padding otherwise.
CREATE TABLE {schema}."{table}" (
    record_key            bytea       NOT NULL PRIMARY KEY,               -- 32 bytes
    fingerprint   bytea       NOT NULL,                           -- 32 bytes
    state          smallint    NOT NULL,                           -- 1 running, 2 completed
    schema_version smallint    NOT NULL DEFAULT 4,
    waited         boolean     NOT NULL DEFAULT false,             -- the end of this claim is waited for
    token          bytea,                                          -- 16 bytes; none once its owner has abandoned it
    attempt        integer     NOT NULL,                           -- 1, 2, ...
    status_code    smallint,                                       -- for people who look; `response` has it too
    operation      text        NOT NULL,                           -- at most 128 bytes
    label          text,                                           -- the application's own reference, at most 64 bytes
    response       bytea,                                          -- of a completed record
    progress       bytea,                                          -- of a claim that was not completed
    created_at     timestamptz NOT NULL,
    lease_until    timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    purge_at       timestamptz                                     -- `expires_at` of a completed record
) WITH (fillfactor = 50);

-- For the sweeper. What else changes in a record's life is in no index, because an update of an
-- indexed column is never heap-only. `expires_at` changes with each renewal, so `purge_at` has it once it
-- does not change any more.
CREATE INDEX "{table}_purge_at" ON {schema}."{table}" (purge_at) WHERE purge_at IS NOT NULL;

-- For operators, who list what is not completed, in the order of the keys; and for the sweeper, who looks there
-- for what never was. A renewal leaves it alone.
CREATE INDEX "{table}_uncompleted" ON {schema}."{table}" (record_key) WHERE state = 1;

-- Claims and completions are plain statements (claim_new.sql, complete_running.sql) as long as there is nothing to decide.
-- What they find no row for is decided by these functions.

-- Becomes the one who runs, or tells who is or was. Lengths of time are microseconds.
--
-- Reads first and writes only what must be written: a replay takes no transaction id, writes no WAL
-- and waits for no fsync. (`INSERT ... ON CONFLICT DO UPDATE ... WHERE false` would lock the row,
-- and that is a write; `ON CONFLICT DO NOTHING` with a SELECT in the same statement shares its
-- snapshot and cannot see the row that it has just run into.) Each statement of a VOLATILE function
-- has a snapshot of its own under READ COMMITTED; under a stricter level the losers of a race fail
-- with 40001 and have written nothing.
CREATE OR REPLACE FUNCTION {schema}."{table}_claim"(
    the_key bytea, the_fingerprint bytea, the_token bytea, the_operation text,
    the_label text, lease_us bigint, retention_us bigint, the_progress bytea, take_over integer,
    OUT outcome text, OUT attempt_number integer, OUT age_us bigint, OUT lease_left_us bigint, OUT answer bytea
) LANGUAGE plpgsql VOLATILE AS $claim$
DECLARE
    -- By floating point, which has whole microseconds for the first 285 years.
    lease     CONSTANT interval := lease_us::float8 * interval '1 microsecond';
    -- What is not completed lives on after its lease.
    life      CONSTANT interval := (lease_us + retention_us)::float8 * interval '1 microsecond';
    moment timestamptz;
    found_one {schema}."{table}"%ROWTYPE;
BEGIN
    -- Each round but the last has met another claim's.
    FOR _ IN 1..1000 LOOP
        -- The time is taken before the row is read: a lease that is renewed in between is then
        -- never reported as ended.
        moment := clock_timestamp();
        SELECT * INTO found_one FROM {schema}."{table}" r WHERE r.record_key = the_key;

        -- 1. No record.
        IF NOT FOUND THEN
            INSERT INTO {schema}."{table}"
                (record_key, fingerprint, state, token, attempt, operation, label, progress,
                created_at, lease_until, expires_at)
            VALUES (the_key, the_fingerprint, 1, the_token, 1, the_operation, the_label, the_progress,
                moment, moment + lease, moment + life)
            ON CONFLICT (record_key) DO NOTHING;
            IF FOUND THEN
                outcome := 'acquired'; attempt_number := 1; age_us := 0;
                RETURN;
            END IF;
            CONTINUE; -- another claim was faster: look at it
        END IF;

        -- 1. Or an expired one. The condition is asked again of the row as it is once it is locked.
        IF found_one.expires_at <= moment THEN
            UPDATE {schema}."{table}" r
            SET fingerprint = the_fingerprint, state = 1, waited = false, token = the_token, attempt = 1,
                operation = the_operation, label = the_label, status_code = NULL, response = NULL, progress = the_progress,
                created_at = clock_timestamp(), lease_until = clock_timestamp() + lease,
                expires_at = clock_timestamp() + life, purge_at = NULL
            WHERE r.record_key = the_key AND r.expires_at <= clock_timestamp();
            IF FOUND THEN
                outcome := 'acquired'; attempt_number := 1; age_us := 0;
                RETURN;
            END IF;
            CONTINUE;
        END IF;

        attempt_number := found_one.attempt;
        age_us := greatest(0, date_part('epoch', moment - found_one.created_at) * 1e6::float8);
        lease_left_us := greatest(0, date_part('epoch', found_one.lease_until - moment) * 1e6::float8);
        IF octet_length(found_one.fingerprint) <> octet_length(the_fingerprint) THEN
            outcome := 'unreadable';
        ELSIF found_one.fingerprint <> the_fingerprint THEN -- 2
            outcome := 'mismatch';
        ELSIF found_one.state = 2 THEN -- 3
            outcome := 'completed'; answer := found_one.response;
        ELSIF found_one.state <> 1 THEN
            outcome := 'unreadable';
        ELSIF found_one.token = the_token THEN -- 4
            outcome := 'acquired';
        ELSIF found_one.lease_until > moment THEN -- 5
            outcome := 'in_flight';
        ELSIF found_one.attempt = take_over THEN -- 6
            UPDATE {schema}."{table}" r
            SET token = the_token, attempt = r.attempt + 1,
                lease_until = clock_timestamp() + lease, expires_at = clock_timestamp() + life
            WHERE r.record_key = the_key AND r.fingerprint = the_fingerprint AND r.state = 1
                AND r.attempt = take_over AND r.token IS NOT DISTINCT FROM found_one.token
                AND r.lease_until <= clock_timestamp() AND r.expires_at > clock_timestamp();
            IF NOT FOUND THEN
                CONTINUE; -- renewed, completed, released, expired or taken over meanwhile
            END IF;
            outcome := 'acquired'; attempt_number := take_over + 1;
        ELSE -- 7
            outcome := 'abandoned';
        END IF;
        RETURN;
    END LOOP;
    RAISE EXCEPTION 'the record is neither there nor absent: row-level security or a trigger is in the way'
        USING ERRCODE = 'object_not_in_prerequisite_state';
END
$claim$;

-- Stores the response of a running claim of this token, drops its progress, and has it expire its TTL from
-- now.
CREATE OR REPLACE FUNCTION {schema}."{table}_complete"(
    the_key bytea, the_token bytea, the_status smallint, the_response bytea, ttl_us bigint, OUT outcome text
) LANGUAGE plpgsql VOLATILE AS $complete$
DECLARE
    ttl CONSTANT interval := ttl_us::float8 * interval '1 microsecond';
BEGIN
    LOOP
        UPDATE {schema}."{table}" r
        SET state = 2, waited = false, status_code = the_status, response = the_response, progress = NULL,
            expires_at = clock_timestamp() + ttl, purge_at = clock_timestamp() + ttl
        WHERE r.record_key = the_key AND r.token = the_token AND r.state = 1 AND r.expires_at > clock_timestamp();
        IF FOUND THEN
            outcome := 'stored';
            RETURN;
        END IF;
        -- A second snapshot: it sees what the update has waited for.
        SELECT CASE r.state WHEN 2 THEN 'already_mine' WHEN 1 THEN 'running' ELSE 'unreadable' END INTO outcome
        FROM {schema}."{table}" r
        WHERE r.record_key = the_key AND r.token = the_token AND r.expires_at > clock_timestamp();
        IF outcome = 'running' THEN
            CONTINUE; -- it has become this token's meanwhile
        END IF;
        outcome := coalesce(outcome, 'lost');
        RETURN;
    END LOOP;
END
$complete$;

-- Claims and completions of several callers, in one commit. An item without a fingerprint is a
-- completion; `lives_us` are the retentions of claims and the TTLs of completions. `place` counts from 1, in the order of the arrays.
--
-- Each item is what it would be alone: claim_new.sql or complete_running.sql, and else the function. So each of its statements
-- has a snapshot of its own, and sees what the items before it have written. Replays alone write nothing here either.
--
-- In the order of the keys, so that two groups that have keys in common cannot lock each other out. An
-- item that has to wait for a row (another transaction has inserted it, or holds it, and has not committed)
-- must not hold up the others: the group fails with 55P03 after a short while, and its items are sent alone.
-- That also ends a deadlock with a statement that locks several rows in another order, before the
-- server would (`deadlock_timeout`, a second) and without an error for that one. The setting goes with
-- the function's end.
CREATE OR REPLACE FUNCTION {schema}."{table}_group"(
    keys bytea[], tokens bytea[], hashes bytea[], operations text[], labels text[], leases_us bigint[], lives_us bigint[],
    progresses bytea[], take_overs integer[], statuses smallint[], responses bytea[]
) RETURNS TABLE (
    place bigint, outcome text, attempt_number integer, age_us bigint, lease_left_us bigint, answer bytea
) LANGUAGE plpgsql VOLATILE SET lock_timeout = '50ms' AS $group$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT * FROM unnest(keys, tokens, hashes, operations, labels, leases_us, lives_us, progresses,
                take_overs, statuses, responses)
            WITH ORDINALITY AS _ (record_key, token, fingerprint, operation, label, lease_us, life_us, progress,
                take_over, status, response, place)
        ORDER BY _.record_key, _.place
    LOOP
        place := item.place;
        attempt_number := NULL; age_us := NULL; lease_left_us := NULL; answer := NULL;
        IF item.fingerprint IS NOT NULL THEN
            INSERT INTO {schema}."{table}"
                (record_key, fingerprint, state, token, attempt, operation, label, progress,
                created_at, lease_until, expires_at)
            VALUES (item.record_key, item.fingerprint, 1, item.token, 1, item.operation, item.label, item.progress,
                clock_timestamp(), clock_timestamp() + item.lease_us::float8 * interval '1 microsecond',
                clock_timestamp() + (item.lease_us + item.life_us)::float8 * interval '1 microsecond')
            ON CONFLICT (record_key) DO NOTHING;
            IF FOUND THEN
                outcome := 'acquired'; attempt_number := 1; age_us := 0;
            ELSE
                SELECT c.* INTO outcome, attempt_number, age_us, lease_left_us, answer
                FROM {schema}."{table}_claim"(item.record_key, item.fingerprint, item.token, item.operation,
                    item.label, item.lease_us, item.life_us, item.progress, item.take_over) c;
            END IF;
        ELSE
            UPDATE {schema}."{table}" r
            SET state = 2, status_code = item.status, response = item.response, progress = NULL,
                expires_at = clock_timestamp() + item.life_us * interval '1 microsecond',
                purge_at = clock_timestamp() + item.life_us * interval '1 microsecond'
            WHERE r.record_key = item.record_key AND r.token = item.token AND r.state = 1 AND NOT r.waited
                AND r.expires_at > clock_timestamp();
            IF FOUND THEN
                outcome := 'stored';
            ELSE
                outcome := {schema}."{table}_complete"(item.record_key, item.token, item.status, item.response, item.life_us);
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$group$;

-- Appends to how far a running claim of this token has got: the part of these bytes that is not there yet.
-- What is stored only grows, and never changes.
CREATE OR REPLACE FUNCTION {schema}."{table}_save_progress"(
    the_key bytea, the_token bytea, the_offset integer, the_bytes bytea, OUT outcome text, OUT stored_bytes integer
) LANGUAGE plpgsql VOLATILE AS $save_progress$
DECLARE
    the_end CONSTANT integer := the_offset + octet_length(the_bytes);
BEGIN
    LOOP
        UPDATE {schema}."{table}" r
        SET progress = coalesce(r.progress, '')
            || substr(the_bytes, 1 + coalesce(octet_length(r.progress), 0) - the_offset)
        WHERE r.record_key = the_key AND r.token = the_token AND r.state = 1 AND r.expires_at > clock_timestamp()
            AND coalesce(octet_length(r.progress), 0) >= the_offset
            AND coalesce(octet_length(r.progress), 0) < the_end;
        IF FOUND THEN
            outcome := 'saved';
            RETURN;
        END IF;
        -- A second snapshot: it sees what the update has waited for, and what has come after its own.
        SELECT CASE r.state WHEN 1 THEN 'saved' WHEN 2 THEN 'lost' ELSE 'unreadable' END,
            coalesce(octet_length(r.progress), 0)
        INTO outcome, stored_bytes
        FROM {schema}."{table}" r
        WHERE r.record_key = the_key AND r.token = the_token AND r.expires_at > clock_timestamp();
        IF outcome = 'saved' AND stored_bytes < the_offset THEN
            outcome := 'behind';
        ELSIF outcome = 'saved' AND stored_bytes < the_end THEN
            CONTINUE; -- what was missing before these bytes has come meanwhile
        END IF;
        outcome := coalesce(outcome, 'lost');
        RETURN;
    END LOOP;
END
$save_progress$;

-- Marks a running record, so that the end of its claim is told, and says whether it is running. Reads
-- first: what is marked already is not written.
CREATE OR REPLACE FUNCTION {schema}."{table}_wait"(the_key bytea, OUT is_running boolean)
LANGUAGE plpgsql VOLATILE AS $wait$
DECLARE
    is_marked boolean;
BEGIN
    SELECT r.waited INTO is_marked
    FROM {schema}."{table}" r
    WHERE r.record_key = the_key AND r.state = 1 AND r.expires_at > clock_timestamp();
    is_running := FOUND;
    IF is_running AND NOT is_marked THEN
        -- A mark that a crash takes back is a lost notification: no caller need wait for the disk,
        -- and least of all the one that completes the record meanwhile.
        PERFORM set_config('synchronous_commit', 'off', true);
        UPDATE {schema}."{table}" r
        SET waited = true
        WHERE r.record_key = the_key AND r.state = 1 AND r.expires_at > clock_timestamp();
        is_running := FOUND;
    END IF;
END
$wait$;

-- Tells waiters that a claim has ended: completed, released, taken over or removed.
--
-- Only an update that sets one of the two columns asks for the condition, which the server reads anew for each
-- statement, at the price of half a completion. So complete_running.sql leaves marked records alone, and the
-- function that completes them takes the mark away.
--
-- By a trigger whose condition is the mark, so that a record without waiters notifies of nothing: a
-- transaction that does takes one lock for the whole server from before its commit is flushed until
-- after it, and such commits go one by one and not in groups.
--
-- Not while the server's queue of notifications is nearly full, as it is when any session that listens has had a transaction
-- open for long: the claim could not end, because its commit would be refused (54000). Its waiters look.
CREATE OR REPLACE FUNCTION {schema}."{table}_tell"() RETURNS trigger
LANGUAGE plpgsql AS $tell$
BEGIN
    IF pg_notification_queue_usage() < 0.9 THEN
        PERFORM pg_notify('{table}_done', encode(OLD.record_key, 'hex'));
    END IF;
    RETURN NULL;
END
$tell$;

CREATE TRIGGER "{table}_changed" AFTER UPDATE OF waited, token ON {schema}."{table}" FOR EACH ROW
    WHEN (OLD.waited AND OLD.state = 1 AND (NEW.state <> 1 OR NEW.token IS DISTINCT FROM OLD.token))
    EXECUTE FUNCTION {schema}."{table}_tell"();

CREATE TRIGGER "{table}_gone" AFTER DELETE ON {schema}."{table}" FOR EACH ROW
    WHEN (OLD.waited AND OLD.state = 1)
    EXECUTE FUNCTION {schema}."{table}_tell"();

-- A transaction's lock of a key, for as long as it lasts. When another session has it, `idempotent.is_taken` says so.
--
-- A connection that is gone without a word keeps the lock no longer than `idle_ms`. What the limit was before is in
-- `idempotent.idle_limit`, and the store's own in `idempotent.idle_own`. NULL for a lock that is not the first of its
-- transaction.
--
-- A statement that runs when its client goes away would run to its end, with the lock: with an interval, the server looks
-- whether the client is there. Not before version 14, and not on Windows.
CREATE OR REPLACE PROCEDURE {schema}."{table}_lock"(lock bigint, idle_ms text) LANGUAGE plpgsql AS $lock$
DECLARE
    ignored text; -- so that nothing here is a query
BEGIN
    IF idle_ms IS NOT NULL THEN
        ignored := set_config('idempotent.idle_limit', current_setting('idle_in_transaction_session_timeout'), true)
            || set_config('idle_in_transaction_session_timeout', idle_ms, true)
            || set_config('idempotent.idle_own', current_setting('idle_in_transaction_session_timeout'), true);
        IF current_setting('client_connection_check_interval', true) IS NOT NULL
            AND current_setting('dynamic_shared_memory_type') <> 'windows'
        THEN
            ignored := set_config('client_connection_check_interval', '1000', true);
        END IF;
    END IF;
    IF NOT pg_try_advisory_xact_lock(lock) THEN
        ignored := set_config('idempotent.is_taken', 'true', true);
    END IF;
END
$lock$;
