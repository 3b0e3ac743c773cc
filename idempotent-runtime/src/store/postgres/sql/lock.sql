SELECT CASE WHEN NOT pg_try_advisory_xact_lock({lock}) THEN set_config('idempotent.is_taken', 'true', true) END;
