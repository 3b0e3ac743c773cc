-- Schema 1. Sent as one message, inside the transaction of `migrate`.

-- One row a record. No CHECK constraints: the server reads the text of each one anew for every row that is
-- written, and plans it: eight of them cost half as much as the row itself. What no release of this crate has
-- written is found out by who reads it.
--
-- fillfactor: a record is updated once or twice in its life. With room on its page the new version
-- stays there and no index is written (a heap-only tuple).
CREATE TABLE "{table}" (
    key          bytea       NOT NULL PRIMARY KEY,                 -- 32 bytes
    request_hash bytea       NOT NULL,                             -- 32 bytes
    state        smallint    NOT NULL,                             -- 1 running, 2 completed
    waited       boolean     NOT NULL DEFAULT false,               -- somebody waits for the end of this claim
    token        bytea       NOT NULL,                             -- 16 bytes
    attempt      integer     NOT NULL,                             -- 1, 2, ...
    status_code  smallint,                                         -- for people who look; `response` has it too
    response     bytea,                                            -- of a completed record
    progress     bytea,                                            -- of a claim that was not completed
    created_at   timestamptz NOT NULL,
    lease_until  timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL
) WITH (fillfactor = 50);

-- For the sweeper. No other index: `state` and `lease_until` change, and an update of an indexed
-- column is never heap-only.
CREATE INDEX "{table}_expires_at" ON "{table}" (expires_at);

-- Becomes the one who runs, or tells who is or was. Lengths of time are microseconds.
--
-- Reads first and writes only what must be written: a replay takes no transaction id, writes no WAL
-- and waits for no fsync. (`INSERT ... ON CONFLICT DO UPDATE ... WHERE false` would lock the row,
-- and that is a write; `ON CONFLICT DO NOTHING` with a SELECT in the same statement shares its
-- snapshot and cannot see the row that it has just run into.) Each statement of a VOLATILE function
-- has a snapshot of its own under READ COMMITTED; under a stricter level the losers of a race fail
-- with 40001 and have written nothing.
CREATE OR REPLACE FUNCTION "{table}_claim"(
    the_key bytea, the_hash bytea, the_token bytea, lease_us bigint, ttl_us bigint, take_over integer,
    OUT outcome text, OUT attempt_number integer, OUT age_us bigint, OUT lease_left_us bigint, OUT answer bytea
) LANGUAGE plpgsql VOLATILE AS $claim$
DECLARE
    -- By floating point, which has whole microseconds for the first 285 years.
    lease CONSTANT interval := lease_us * interval '1 microsecond';
    ttl   CONSTANT interval := ttl_us * interval '1 microsecond';
    moment timestamptz;
    found_one "{table}"%ROWTYPE;
BEGIN
    LOOP
        -- The time is taken before the row is read: a lease that is renewed in between is then
        -- never reported as ended.
        moment := clock_timestamp();
        SELECT * INTO found_one FROM "{table}" r WHERE r.key = the_key;

        -- 1. No record.
        IF NOT FOUND THEN
            INSERT INTO "{table}" (key, request_hash, state, token, attempt, created_at, lease_until, expires_at)
            VALUES (the_key, the_hash, 1, the_token, 1, moment, moment + lease, moment + ttl)
            ON CONFLICT DO NOTHING;
            IF FOUND THEN
                outcome := 'acquired'; attempt_number := 1; age_us := 0;
                RETURN;
            END IF;
            CONTINUE; -- somebody was faster: look at theirs
        END IF;

        -- 1. Or an expired one. The condition is asked again of the row as it is once it is locked.
        IF found_one.expires_at <= moment THEN
            UPDATE "{table}" r
            SET request_hash = the_hash, state = 1, waited = false, token = the_token, attempt = 1,
                status_code = NULL, response = NULL, progress = NULL, created_at = clock_timestamp(),
                lease_until = clock_timestamp() + lease, expires_at = clock_timestamp() + ttl
            WHERE r.key = the_key AND r.expires_at <= clock_timestamp();
            IF FOUND THEN
                outcome := 'acquired'; attempt_number := 1; age_us := 0;
                RETURN;
            END IF;
            CONTINUE;
        END IF;

        attempt_number := found_one.attempt;
        age_us := greatest(0, extract(epoch FROM moment - found_one.created_at) * 1e6);
        lease_left_us := greatest(0, extract(epoch FROM found_one.lease_until - moment) * 1e6);
        IF octet_length(found_one.request_hash) <> octet_length(the_hash) THEN
            outcome := 'unreadable';
        ELSIF found_one.request_hash <> the_hash THEN -- 2
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
            UPDATE "{table}" r
            SET token = the_token, attempt = r.attempt + 1,
                lease_until = clock_timestamp() + lease, expires_at = clock_timestamp() + ttl
            WHERE r.key = the_key AND r.request_hash = the_hash AND r.state = 1
                AND r.attempt = take_over AND r.token = found_one.token
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
END
$claim$;

-- Stores the response of a running claim of this token and drops its progress. `expires_at` stays as
-- it is, so that the update can be heap-only.
CREATE OR REPLACE FUNCTION "{table}_complete"(
    the_key bytea, the_token bytea, the_status smallint, the_response bytea, OUT outcome text
) LANGUAGE plpgsql VOLATILE AS $complete$
BEGIN
    UPDATE "{table}" r
    SET state = 2, status_code = the_status, response = the_response, progress = NULL
    WHERE r.key = the_key AND r.token = the_token AND r.state = 1 AND r.expires_at > clock_timestamp();
    IF FOUND THEN
        outcome := 'stored';
        RETURN;
    END IF;
    -- A second snapshot: it sees what the update has waited for.
    SELECT CASE r.state WHEN 2 THEN 'already_mine' WHEN 1 THEN 'lost' ELSE 'unreadable' END INTO outcome
    FROM "{table}" r
    WHERE r.key = the_key AND r.token = the_token AND r.expires_at > clock_timestamp();
    outcome := coalesce(outcome, 'lost');
END
$complete$;

-- Claims and completions of several callers, in one commit. An item without a request hash is a
-- completion. `place` counts from 1, in the order of the arrays.
--
-- Each item is a call of the function that it would be alone, so each of its statements has a snapshot
-- of its own, and sees what the items before it have written. Replays alone write nothing here either.
--
-- In the order of the keys, so that two groups that have keys in common cannot lock each other out. An
-- item that has to wait for a row (somebody has inserted it, or holds it, and has not committed) must
-- not hold up the others: the group fails with 55P03 after a short while, and its items are sent alone.
-- That also ends a deadlock with a statement that locks several rows in another order, before the
-- server would (`deadlock_timeout`, a second) and without an error for that one. The setting goes with
-- the function's end.
CREATE OR REPLACE FUNCTION "{table}_group"(
    keys bytea[], tokens bytea[], hashes bytea[], leases_us bigint[], ttls_us bigint[], take_overs integer[],
    statuses smallint[], responses bytea[]
) RETURNS TABLE (
    place bigint, outcome text, attempt_number integer, age_us bigint, lease_left_us bigint, answer bytea
) LANGUAGE plpgsql VOLATILE SET lock_timeout = '50ms' AS $group$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT * FROM unnest(keys, tokens, hashes, leases_us, ttls_us, take_overs, statuses, responses)
            WITH ORDINALITY AS _ (key, token, hash, lease_us, ttl_us, take_over, status, response, place)
        ORDER BY 1, 9
    LOOP
        place := item.place;
        IF item.hash IS NOT NULL THEN
            SELECT c.* INTO outcome, attempt_number, age_us, lease_left_us, answer
            FROM "{table}_claim"(item.key, item.hash, item.token, item.lease_us, item.ttl_us, item.take_over) c;
        ELSE
            SELECT c.outcome INTO outcome
            FROM "{table}_complete"(item.key, item.token, item.status, item.response) c;
            attempt_number := NULL; age_us := NULL; lease_left_us := NULL; answer := NULL;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$group$;

-- Keeps how far a running claim of this token has got. What is kept only grows: bytes that are not
-- longer are an earlier call that was late.
CREATE OR REPLACE FUNCTION "{table}_save_progress"(
    the_key bytea, the_token bytea, the_progress bytea, OUT outcome text
) LANGUAGE plpgsql VOLATILE AS $save_progress$
BEGIN
    UPDATE "{table}" r
    SET progress = the_progress
    WHERE r.key = the_key AND r.token = the_token AND r.state = 1 AND r.expires_at > clock_timestamp()
        AND octet_length(the_progress) > coalesce(octet_length(r.progress), 0);
    IF FOUND THEN
        outcome := 'saved';
        RETURN;
    END IF;
    -- A second snapshot: it sees what the update has waited for.
    SELECT CASE r.state WHEN 1 THEN 'saved' WHEN 2 THEN 'lost' ELSE 'unreadable' END INTO outcome
    FROM "{table}" r
    WHERE r.key = the_key AND r.token = the_token AND r.expires_at > clock_timestamp();
    outcome := coalesce(outcome, 'lost');
END
$save_progress$;

-- Marks a running record, so that the end of its claim is told, and says whether it is running. Reads
-- first: what is marked already is not written.
CREATE OR REPLACE FUNCTION "{table}_wait"(the_key bytea, OUT is_running boolean)
LANGUAGE plpgsql VOLATILE AS $wait$
DECLARE
    is_marked boolean;
BEGIN
    SELECT r.waited INTO is_marked
    FROM "{table}" r
    WHERE r.key = the_key AND r.state = 1 AND r.expires_at > clock_timestamp();
    is_running := FOUND;
    IF is_running AND NOT is_marked THEN
        -- A mark that a crash takes back is a hint that is lost: nobody need wait for the disk, and
        -- least of all who completes the record meanwhile.
        PERFORM set_config('synchronous_commit', 'off', true);
        UPDATE "{table}" r
        SET waited = true
        WHERE r.key = the_key AND r.state = 1 AND r.expires_at > clock_timestamp();
        is_running := FOUND;
    END IF;
END
$wait$;

-- Tells those who wait that a claim has ended: completed, released, taken over or removed, by whatever
-- statement.
--
-- By a trigger whose condition is the mark, so that a record that nobody waits for notifies nobody: a
-- transaction that does takes one lock for the whole server from before its commit is flushed until
-- after it, and such commits go one by one and not in groups.
CREATE OR REPLACE FUNCTION "{table}_tell"() RETURNS trigger
LANGUAGE plpgsql AS $tell$
BEGIN
    PERFORM pg_notify('{table}_done', encode(OLD.key, 'hex'));
    RETURN NULL;
END
$tell$;

CREATE TRIGGER "{table}_changed" AFTER UPDATE ON "{table}" FOR EACH ROW
    WHEN (OLD.waited AND OLD.state = 1 AND (NEW.state <> 1 OR NEW.token <> OLD.token))
    EXECUTE FUNCTION "{table}_tell"();

CREATE TRIGGER "{table}_gone" AFTER DELETE ON "{table}" FOR EACH ROW
    WHEN (OLD.waited AND OLD.state = 1)
    EXECUTE FUNCTION "{table}_tell"();

-- What `migrate` reads. A release of this crate refuses a number that it does not know.
COMMENT ON TABLE "{table}" IS 'idempotent-runtime schema 1';
