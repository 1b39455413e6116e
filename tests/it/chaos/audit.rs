//! What the database itself has to do with it: it sees every write, and so whether a row went back
//! in time; and it refuses some.

use test_postgres::TestDatabase;

/// A log of the versions that rows had before and after every write, deletions included, in
/// tables that have a key. (A load in bulk writes into one that has none, and each row of it may
/// come twice; the key is made when all but the newest are gone.)
///
/// Writers of one row come one after the other, because each holds it until its end: so numbers
/// that are drawn in their transactions are in the order of the writes.
///
/// Orders in an odd state break a rule that only the database knows.
const SET_UP: &str = r"
CREATE SCHEMA audit;
CREATE TABLE audit.log (
  number bigint GENERATED ALWAYS AS IDENTITY, stream text, key text, version bigint, what text,
  at timestamptz DEFAULT clock_timestamp());

CREATE FUNCTION audit.saw() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  stream text := regexp_replace(TG_TABLE_NAME, '^_syncline_side_', '');
  version text := CASE WHEN stream = TG_TABLE_NAME THEN '_syncline_version' ELSE 'version' END;
  key text := CASE WHEN stream = 'orders' THEN 'order_no' ELSE 'id' END;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = TG_RELID AND indisprimary) THEN
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO audit.log (stream, key, version, what)
      SELECT stream, to_jsonb(OLD) ->> key, (to_jsonb(OLD) ->> version)::bigint, 'before ' || TG_OP || ' ' || TG_TABLE_NAME;
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO audit.log (stream, key, version, what)
      SELECT stream, to_jsonb(NEW) ->> key, (to_jsonb(NEW) ->> version)::bigint, TG_OP || ' ' || TG_TABLE_NAME;
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION audit.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'an odd state' USING ERRCODE = 'check_violation';
END $$;

CREATE FUNCTION audit.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE made record;
BEGIN
  FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE object_type = 'table'
    AND object_identity ~ '(^|\.)(_syncline_side_)?(accounts|contacts|orders)$' LOOP
    EXECUTE format('CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION audit.saw()', made.objid::regclass);
    IF made.object_identity ~ '(^|\.)orders$' THEN
      EXECUTE format('CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON %s FOR EACH ROW WHEN (NEW.status LIKE ''odd %%'') EXECUTE FUNCTION audit.refuse()', made.objid::regclass);
    END IF;
  END LOOP;
END $$;
CREATE EVENT TRIGGER audit ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS') EXECUTE FUNCTION audit.watch();
";

/// Versions written over newer ones of the same row.
const BACK: &str = "
SELECT stream, key, newest, version, what, at FROM (
  SELECT *, max(version) OVER (PARTITION BY stream, key ORDER BY number
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS newest
  FROM audit.log) AS each
WHERE version < newest AND what NOT LIKE 'before%' ORDER BY number LIMIT 20";

/// Sees every write from now on.
pub(super) async fn set_up(database: &TestDatabase) {
    database.execute(SET_UP).await;
}

async fn back_in_time(database: &TestDatabase) -> Vec<Vec<String>> {
    database.query(BACK).await
}

/// Asserts that no row has gone back in time so far; returns how many writes were seen.
pub(super) async fn assert_never_back(database: &TestDatabase) -> usize {
    let back = back_in_time(database).await;
    assert!(back.is_empty(), "back in time: {back:#?}");
    let seen = database.query("SELECT count(*) FROM audit.log WHERE what NOT LIKE 'before%'");
    seen.await[0][0].parse().expect("a number")
}

#[tokio::test]
async fn a_row_that_goes_back_in_time_is_seen() {
    let forward = "
        CREATE TABLE accounts (id text PRIMARY KEY, _syncline_version bigint);
        CREATE TABLE _syncline_side_accounts (id text PRIMARY KEY, version bigint);
        INSERT INTO accounts VALUES ('one', 5), ('two', 3);
        UPDATE accounts SET _syncline_version = 6;
        DELETE FROM accounts WHERE id = 'one';
        INSERT INTO _syncline_side_accounts VALUES ('one', 7), ('three', NULL);
        INSERT INTO accounts VALUES ('one', 8);
        DELETE FROM _syncline_side_accounts WHERE id = 'one'";
    let back = [
        "UPDATE accounts SET _syncline_version = 5 WHERE id = 'two'",
        "DELETE FROM accounts; INSERT INTO accounts VALUES ('one', 7)",
        "INSERT INTO _syncline_side_accounts VALUES ('two', 5)",
    ];
    for back in back {
        let database = TestDatabase::create().await;
        set_up(&database).await;
        database.execute(forward).await;
        assert!(assert_never_back(&database).await > 0);
        database.execute(back).await;
        assert_eq!(back_in_time(&database).await.len(), 1, "{back}");
    }
}
