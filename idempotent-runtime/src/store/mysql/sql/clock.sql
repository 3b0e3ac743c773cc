-- Makes the session's clock the server's, whatever a user of the connection has set it to. The comments are the
-- servers' own, as in session_state.sql. A MariaDB server that lets no session set it refuses even this.
/*M! EXECUTE IMMEDIATE IF(@@secure_timestamp = 'NO', 'SET timestamp = DEFAULT', 'DO 0') */
/*!80000 SET timestamp = DEFAULT */
