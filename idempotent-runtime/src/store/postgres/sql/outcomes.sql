-- What became of each that was `asked` for, behind the rows that no other transaction `held` and those that were
-- `written`. Not by place: an owner that is asked for twice is written once.
SELECT place, CASE
    WHEN EXISTS (SELECT FROM written WHERE written.record_key = asked.record_key AND written.token = asked.token) THEN 'done'
    WHEN NOT EXISTS (SELECT FROM held WHERE held.record_key = asked.record_key)
        AND EXISTS (SELECT FROM {schema}."{table}" r WHERE r.record_key = asked.record_key AND r.token = asked.token
            AND r.state = 1 AND r.expires_at > clock_timestamp()) THEN 'busy'
    ELSE 'lost'
END AS outcome
FROM asked
