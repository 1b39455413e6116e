//! Rows one by one within a single call, for batches of which many rows are refused.
//!
//! Finding refused rows by halving costs some calls for each of them, and each attempt leaves
//! its rows behind in the staging table. So from a certain number of refusals on the server
//! itself tries what is left row by row, each in a subtransaction of its own.

use model::Cause;

use crate::{
    connect::Connection,
    error::{BATCH_CLASSES, Fault, Refusal},
    sql::CHOSEN,
};

/// Which of some statements are done with the row at a place in a staging table: one bit each.
pub(crate) struct Turn {
    pub(crate) place: String,
    pub(crate) which: i32,
}

/// The function that does `statements`. Errors that would strike any row end the whole call.
fn function(statements: &[String]) -> String {
    let steps: Vec<String> = statements
        .iter()
        .enumerate()
        .map(|(bit, statement)| {
            let statement = statement.replace(CHOSEN, "s.ctid = _syncline_place");
            // What a query gives is of no interest, only that it can be answered.
            let statement = match statement.strip_prefix("SELECT ") {
                Some(query) => format!("PERFORM {query}"),
                None => statement,
            };
            let which = 1_u32 << bit;
            format!("IF _syncline_which[_syncline_at] & {which} <> 0 THEN {statement}; END IF;")
        })
        .collect();
    let classes: Vec<String> = BATCH_CLASSES
        .iter()
        .map(|class| format!("'{class}'"))
        .collect();
    format!(
        "CREATE OR REPLACE FUNCTION pg_temp._syncline_singly(_syncline_places text[], _syncline_which integer[])
         RETURNS TABLE (_syncline_at integer, _syncline_code text, _syncline_message text,
           _syncline_detail text, _syncline_column text, _syncline_constraint text)
         LANGUAGE plpgsql AS $_syncline_singly$
         #variable_conflict use_column
         DECLARE _syncline_place tid;
         BEGIN
           FOR _syncline_n IN 1 .. cardinality(_syncline_places) LOOP
             _syncline_at := _syncline_n;
             _syncline_place := _syncline_places[_syncline_n]::tid;
             BEGIN
               {}
             EXCEPTION WHEN OTHERS THEN
               GET STACKED DIAGNOSTICS _syncline_code = RETURNED_SQLSTATE, _syncline_message = MESSAGE_TEXT,
                 _syncline_detail = PG_EXCEPTION_DETAIL, _syncline_column = COLUMN_NAME,
                 _syncline_constraint = CONSTRAINT_NAME;
               IF left(_syncline_code, 2) IN ({}) THEN RAISE; END IF;
               RETURN NEXT;
             END;
           END LOOP;
         END $_syncline_singly$",
        steps.join("\n"),
        classes.join(", ")
    )
}

/// Does `statements` with each row that has its turn, one after the other. Returns which of
/// them were refused, and why. Of a row that is refused nothing is done.
pub(crate) async fn each(
    db: &Connection,
    statements: &[String],
    turns: &[Turn],
) -> Result<Vec<(usize, Box<Cause>)>, Fault> {
    db.client.batch_execute(&function(statements)).await?;
    let places: Vec<&str> = turns.iter().map(|turn| turn.place.as_str()).collect();
    let which: Vec<i32> = turns.iter().map(|turn| turn.which).collect();
    // Never kept prepared: the function is another one each time.
    let call = "SELECT * FROM pg_temp._syncline_singly($1, $2)";
    let rows = db.client.query(call, &[&places, &which]).await?;
    let mut refused = Vec::with_capacity(rows.len());
    for row in rows {
        let at: i32 = row.try_get(0)?;
        let refusal = Refusal {
            code: row.try_get(1)?,
            message: row.try_get(2)?,
            // What an error does not have is empty here.
            detail: Some(row.try_get(3)?).filter(|text: &&str| !text.is_empty()),
            column: Some(row.try_get(4)?).filter(|text: &&str| !text.is_empty()),
            constraint: Some(row.try_get(5)?).filter(|text: &&str| !text.is_empty()),
        };
        let cause = refusal
            .cause()
            .ok_or_else(|| Fault::Schema(format!("{} ({})", refusal.message, refusal.code)))?;
        let at = usize::try_from(at - 1).unwrap_or(0);
        refused.push((at, Box::new(cause)));
    }
    Ok(refused)
}
