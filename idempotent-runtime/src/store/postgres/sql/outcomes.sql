-- What became of each that was `asked` for, behind the rows that no other transaction `held` and those that were
-- `written`. Not by place: an owner that is asked for twice is written once.
SELECT place, CASE
    WHEN EXISTS (SELECT FROM written WHERE written.key = asked.key AND written.token = asked.token) THEN 'done'
    WHEN NOT EXISTS (SELECT FROM held WHERE held.key = asked.key)
        AND EXISTS (SELECT FROM {schema}."{table}" r WHERE r.key = asked.key AND r.token = asked.token
            AND r.state = 1 AND r.expires_at > clock_timestamp()) THEN 'busy'
    ELSE 'lost'
END AS outcome
FROM asked
