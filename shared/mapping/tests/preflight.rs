//! What is said of a map that is held against its systems.

#![cfg(test)]

use definition::{Definition, Severity};
use mapping::{Plan, PlanProblem, Schemas};
use model::DataType;
use ports::{ColumnSchema, FieldSchema, StreamSchema, TableSchema};

fn field(name: &str, ty: &str, nullable: bool) -> FieldSchema {
    FieldSchema {
        name: name.into(),
        ty: Some(ty.parse().unwrap()),
        nullable,
    }
}

fn source() -> StreamSchema {
    StreamSchema {
        fields: vec![
            field("Id", "text(20)", false),
            field("Rev", "bigint", false),
            field("Name", "text(200)", true),
            field("Amount", "decimal(18,4)", true),
            field("Count", "bigint", true),
            field("At", "timestamp", true),
            field("On", "boolean", false),
        ],
        key: vec!["Id".into()],
    }
}

fn column(name: &str, ty: &str, nullable: bool) -> ColumnSchema {
    ColumnSchema {
        name: name.into(),
        ty: Some(ty.parse::<DataType>().unwrap()),
        native: ty.into(),
        nullable,
        defaulted: false,
        computed: false,
    }
}

fn table(own: bool, columns: Vec<ColumnSchema>) -> TableSchema {
    TableSchema {
        columns,
        key: vec!["id".into()],
        own,
    }
}

/// All that is said of a map with these fields and further keys.
fn problems(fields: &str, to: &str, more: &str, target: Option<&TableSchema>) -> Vec<PlanProblem> {
    let text = format!(
        "connections:
  crm: {{ kind: odata, url: \"https://crm.example.com\" }}
  warehouse: {{ kind: sqlite, url: warehouse.db }}
maps:
  things:
    from: {{ stream: crm.Things, key: Id, version: Rev }}
    to: {{ stream: warehouse.things, key: id{to} }}
    fields: {{ id: Id, {fields} }}
{more}
"
    );
    let reading = Definition::read(&text);
    let definition = reading
        .definition
        .unwrap_or_else(|| panic!("{:#?}", reading.problems));
    let source = source();
    let schemas = Schemas {
        source: Some(&source),
        target,
        target_known: true,
    };
    Plan::compile(definition.maps.values().next().unwrap(), schemas).1
}

/// Asserts that one thing is said, at a place, and that it says what to do.
#[track_caller]
fn assert_only(found: &[PlanProblem], severity: Severity, code: &str, at: &str, said: &str) {
    assert_eq!(found.len(), 1, "{found:#?}");
    let problem = &found[0];
    assert_eq!(
        (problem.severity, problem.code, problem.at.as_str()),
        (severity, code, at)
    );
    assert!(problem.message.contains(said), "{}", problem.message);
    assert!(
        problem.help.is_some() || problem.message.contains(": "),
        "{}",
        problem.message
    );
}

#[test]
fn what_fits_is_not_talked_about() {
    let fields =
        "name: Name, amount: Amount, count: Count, at: At, on: On, more: { expr: src.Name }";
    assert_eq!(problems(fields, "", "", None), []);
    let target = table(
        true,
        vec![
            column("id", "text", false),
            column("name", "text(200)", true),
            column("amount", "decimal(20,4)", true),
            column("count", "decimal", true),
        ],
    );
    assert_eq!(problems(fields, "", "", Some(&target)), []);
    // Where the map converts or rounds by itself it is believed.
    let fields = "a: { from: Amount, type: integer, round: half-up }, b: { from: On, type: integer, values: { \"true\": 1, \"false\": 0 } }";
    assert_eq!(problems(fields, "", "", None), []);
}

#[test]
fn a_column_that_is_too_small_or_of_another_kind_is_doubtful() {
    for (fields, at, said) in [
        (
            "x: { from: Name, type: text(50) }",
            "fields.x",
            "is text(200) in the source, and column `x` is text(50)",
        ),
        (
            "x: { from: Amount, type: \"decimal(10,2)\" }",
            "fields.x",
            "decimal(18,4)",
        ),
        ("x: { from: Amount, type: bigint }", "fields.x", "bigint"),
        ("x: { from: Count, type: integer }", "fields.x", "integer"),
        ("x: { from: At, type: date }", "fields.x", "date"),
        ("x: { from: Name, type: uuid }", "fields.x", "uuid"),
        ("x: { from: On, type: integer }", "fields.x", "boolean"),
    ] {
        assert_only(
            &problems(fields, "", "", None),
            Severity::Warning,
            "type-mismatch",
            at,
            said,
        );
    }
}

#[test]
fn a_name_that_no_record_has_is_found_even_where_the_map_goes_on_without_it() {
    for fields in [
        "x: { from: Nmae, default: none }",
        "x: { from: Nmae, missing: \"null\" }",
        "x: { expr: \"has(src.Nmae) ? src.Nmae : ''\" }",
    ] {
        assert_only(
            &problems(fields, "", "", None),
            Severity::Warning,
            "missing-field",
            "fields.x",
            "`Nmae`",
        );
    }
    let filter = "    filter: src.Statsu == 'active'";
    let found = problems("name: Name", "", filter, None);
    assert_only(
        &found,
        Severity::Warning,
        "missing-field",
        "filter",
        "`Statsu`",
    );
    let found = problems(
        "name: Name",
        "",
        "    load: { slices: 4, by: CreatedAt }",
        None,
    );
    assert_only(
        &found,
        Severity::Error,
        "missing-field",
        "load.by",
        "`CreatedAt` to cut",
    );
    let found = problems("name: Nmae", "", "", None);
    assert_only(
        &found,
        Severity::Error,
        "missing-field",
        "fields.name",
        "`Nmae`",
    );
}

#[test]
fn a_mandatory_column_wants_a_default_or_a_decision() {
    let target = table(
        false,
        vec![column("id", "text", false), column("name", "text", false)],
    );
    let found = problems("name: Name", ", existing: true", "", Some(&target));
    assert_only(
        &found,
        Severity::Warning,
        "missing-default",
        "fields.name",
        "`Name` may be null",
    );
    for fields in [
        "name: { from: Name, default: none }",
        "name: { from: Name, required: true }",
    ] {
        assert_eq!(problems(fields, ", existing: true", "", Some(&target)), []);
    }
    let found = problems("x: { value: 1 }", ", existing: true", "", Some(&target));
    let codes: Vec<&str> = found.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, ["missing-column", "unmapped-mandatory"]);
}

#[test]
fn a_table_of_somebody_else_is_not_changed_by_mistake() {
    let theirs = table(false, vec![column("id", "text", false)]);
    let found = problems("name: Name", "", "", Some(&theirs));
    assert_only(
        &found,
        Severity::Error,
        "foreign-table",
        "to.stream",
        "syncline did not make it",
    );
    let mut ours = table(
        true,
        vec![column("id", "text", false), column("no", "text", true)],
    );
    assert_eq!(problems("name: Name", "", "", Some(&ours)), []);
    ours.key = vec!["no".into()];
    let found = problems("name: Name", "", "", Some(&ours));
    assert_only(
        &found,
        Severity::Error,
        "key-mismatch",
        "to.key",
        "was made with the key no",
    );
}
