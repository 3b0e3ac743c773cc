-- begin.sql without a record, and so without enter_first.sql, whatever the connection was left in.
ROLLBACK AND NO CHAIN NO RELEASE;
{limit}, @idempotent_autocommit = @@autocommit;
{clock};
{begin}
