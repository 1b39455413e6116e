//! What a map makes of a record.

#![cfg(test)]

use definition::Definition;
use mapping::{Mapped, Plan, PlanProblem, Schemas, Scratch, key_text};
use model::{Change, DataType, Op, Rows, Value, Version};
use ports::{ColumnSchema, FieldSchema, StreamSchema, TableSchema};
use proptest::prelude::*;

/// A map from `crm.Accounts`, whose fields and further keys a test gives.
fn definition(fields: &str, more: &str) -> Definition {
    let text = format!(
        "connections:
  crm: {{ kind: odata, url: \"https://crm.example.com\" }}
  warehouse: {{ kind: sqlite, url: warehouse.db }}
maps:
  customers:
    from: {{ stream: crm.Accounts, key: Id, version: ModifiedAt }}
    to: {{ stream: warehouse.customers, key: id }}
    fields:
      id: Id
{fields}
{more}
"
    );
    let reading = Definition::read(&text);
    reading
        .definition
        .unwrap_or_else(|| panic!("{:#?}", reading.problems))
}

fn compile(fields: &str, more: &str, schemas: Schemas<'_>) -> (Option<Plan>, Vec<PlanProblem>) {
    let definition = definition(fields, more);
    Plan::compile(definition.maps.values().next().unwrap(), schemas)
}

fn plan(fields: &str, more: &str) -> Plan {
    let (plan, problems) = compile(fields, more, Schemas::default());
    plan.unwrap_or_else(|| panic!("{problems:#?}"))
}

fn change(op: Op, raw: &str) -> Change {
    Change {
        op,
        observed: 77,
        raw: raw.to_owned().into(),
        failure: None,
    }
}

/// What became of one upsert, and its row.
fn map(plan: &Plan, raw: &str) -> (Mapped, Vec<Value<'static>>) {
    map_op(plan, Op::Upsert, raw)
}

fn map_op(plan: &Plan, op: Op, raw: &str) -> (Mapped, Vec<Value<'static>>) {
    let change = Box::leak(Box::new(change(op, raw)));
    let mut rows = Rows::new(plan.table().columns.len());
    let mapped = plan.map_change(change, &mut rows, &mut Scratch::default());
    assert_eq!(
        rows.len(),
        usize::from(!matches!(mapped, Mapped::Failed(_)))
    );
    (mapped, rows.row(0).to_vec())
}

fn code(plan: &Plan, raw: &str) -> (String, Option<String>) {
    match map(plan, raw).0 {
        Mapped::Failed(cause) => (cause.code, cause.field),
        other => panic!("{other:?}"),
    }
}

fn text(text: &str) -> Value<'static> {
    Value::Text(text.to_owned().into())
}

const FIELDS: &str = "      name: Name
      city: { from: Address/City, missing: \"null\" }
      country: { from: Country, values: { Germany: DE, France: FR }, default: XX }
      phone: { from: Phone, missing: keep }
      limit: { expr: \"has(src.Limit) ? src.Limit * 100 : 0\", type: \"decimal(18,2)\" }
      source: { value: crm }";

#[test]
fn a_record_becomes_a_row() {
    let plan = plan(FIELDS, "");
    let raw = r#"{"Id":"A-1","Name":"Alpine \"Ltd\"","Address":{"City":"Bern"},"Country":"Germany",
        "Limit":200.5,"ModifiedAt":"1970-01-01T00:00:01Z","Ignored":{"x":[1,2]}}"#;
    let (mapped, row) = map(&plan, raw);
    assert_eq!(
        mapped,
        Mapped::Upsert {
            version: Some(Version(1_000_000))
        }
    );
    let limit = Value::Decimal("20050.0".into());
    assert_eq!(
        row,
        [
            text("A-1"),
            text("Alpine \"Ltd\""),
            text("Bern"),
            text("DE"),
            Value::Missing,
            limit,
            text("crm")
        ]
    );
}

#[test]
fn a_value_map_leads_back_where_it_can() {
    let fields =
        "      country: { from: Country, values: { Germany: DE, Deutschland: DE, France: FR } }
      open: { from: State, type: boolean, values: { active: true, inactive: false } }
      name: Name";
    let plan = plan(fields, "");
    assert_eq!(plan.source_value(1, &text("FR")), Some("France"));
    assert_eq!(plan.source_value(1, &text("DE")), None, "it may be either");
    assert_eq!(plan.source_value(1, &text("IT")), None);
    assert_eq!(plan.source_value(2, &Value::Bool(false)), Some("inactive"));
    assert_eq!(plan.source_value(3, &text("Germany")), None);
}

#[test]
fn null_missing_and_unknown_are_three_things() {
    let plan = plan(FIELDS, "");
    let raw = r#"{"Id":"A-1","Name":null,"Address":{"City":null},"Country":"Narnia","Phone":null,"ModifiedAt":"1"}"#;
    let row = map(&plan, raw).1;
    assert_eq!(
        row[1..5],
        [Value::Null, Value::Null, text("XX"), Value::Null]
    );
    let raw = r#"{"Id":"A-1","Name":"x","ModifiedAt":"1"}"#;
    let row = map(&plan, raw).1;
    assert_eq!(row[2..5], [Value::Null, text("XX"), Value::Missing]);
}

#[test]
fn a_record_that_does_not_fit_says_which_field_and_why() {
    let plan = plan(
        "      name: { from: Name, type: text(5), required: true }\n      n: { from: N, type: integer, values: { one: 1 } }",
        "",
    );
    let cases = [
        (r#"{"Id":"1","N":"one"}"#, "field-missing", "name"),
        (
            r#"{"Id":"1","Name":null,"N":"one"}"#,
            "required-null",
            "name",
        ),
        (
            r#"{"Id":"1","Name":"abcdef","N":"one"}"#,
            "too-long",
            "name",
        ),
        (
            r#"{"Id":"1","Name":"abc","N":"two"}"#,
            "unmapped-value",
            "n",
        ),
        (
            r#"{"Id":null,"Name":"abc","N":"one"}"#,
            "required-null",
            "id",
        ),
        (r#"{"Name":"abc","N":"one"}"#, "field-missing", "id"),
        (
            r#"{"Id":"1","Id":"2","Name":"abc","N":"one"}"#,
            "duplicate-field",
            "Id",
        ),
        (
            r#"{"Id":"1","Name":"abc","N":"one","ModifiedAt":"soon"}"#,
            "bad-version",
            "ModifiedAt",
        ),
    ];
    for (raw, expected, field) in cases {
        assert_eq!(
            code(&plan, raw),
            (expected.to_owned(), Some(field.to_owned())),
            "{raw}"
        );
    }
    assert_eq!(code(&plan, "[]").0, "malformed-record");
}

#[test]
fn a_record_without_its_version_is_no_failure_here() {
    let plan = plan("      name: Name", "");
    assert_eq!(
        map(&plan, r#"{"Id":"1","Name":"x"}"#).0,
        Mapped::Upsert { version: None }
    );
    assert_eq!(
        map(&plan, r#"{"Id":"1","Name":"x","ModifiedAt":null}"#).0,
        Mapped::Upsert { version: None }
    );
}

#[test]
fn deletes_and_touches_need_only_the_key() {
    let plan = plan("      name: Name", "");
    let (mapped, row) = map_op(&plan, Op::Delete, r#"{"Id":"1"}"#);
    assert_eq!(
        mapped,
        Mapped::Delete {
            version: None,
            filtered: false
        }
    );
    assert_eq!(row, [text("1"), Value::Missing]);
    assert_eq!(map_op(&plan, Op::Touch, r#"{"Id":"1"}"#).0, Mapped::Touch);
    assert!(matches!(
        map_op(&plan, Op::Touch, r#"{"Name":"x"}"#).0,
        Mapped::Failed(_)
    ));
}

#[test]
fn a_filter_leaves_out_and_a_deletion_mark_deletes() {
    let plan = plan("      name: Name", "    filter: \"src.Status == 'active'\"");
    let row =
        |status: &str| format!(r#"{{"Id":"1","Name":"x","Status":"{status}","ModifiedAt":"5"}}"#);
    assert!(matches!(
        map(&plan, &row("active")).0,
        Mapped::Upsert { .. }
    ));
    let version = Some(Version(5));
    assert_eq!(
        map(&plan, &row("lost")).0,
        Mapped::Delete {
            version,
            filtered: true
        }
    );
    assert_eq!(
        code(&plan, r#"{"Id":"1","Name":"x","ModifiedAt":"5"}"#).0,
        "expression"
    );
    let marked = definition("      name: Name", "");
    let mut marked = marked.maps.into_values().next().unwrap();
    marked.from.deleted = Some("has(src.IsDeleted) && src.IsDeleted".into());
    let plan = Plan::compile(&marked, Schemas::default()).0.unwrap();
    let gone = map(
        &plan,
        r#"{"Id":"1","Name":"x","IsDeleted":true,"ModifiedAt":"5"}"#,
    )
    .0;
    assert_eq!(
        gone,
        Mapped::Delete {
            version,
            filtered: false
        }
    );
}

#[test]
fn types_come_from_the_map_then_the_target_then_the_source() {
    let field = |name: &str, ty| FieldSchema {
        name: name.into(),
        ty: Some(ty),
        nullable: true,
    };
    let source = StreamSchema {
        fields: vec![
            field("Id", DataType::Uuid),
            field("A", DataType::Int32),
            field("B", DataType::Int32),
            field("C", DataType::Int32),
            field("ModifiedAt", DataType::Timestamp),
        ],
        key: vec!["Id".into()],
    };
    let column = |name: &str, ty| ColumnSchema {
        name: name.into(),
        ty: Some(ty),
        native: "x".into(),
        nullable: true,
        defaulted: false,
        computed: false,
    };
    let target = TableSchema {
        columns: vec![
            column("a", DataType::Int64),
            column("b", DataType::Int64),
            column("id", DataType::Uuid),
        ],
        key: vec!["id".into()],
        own: true,
    };
    let schemas = Schemas {
        source: Some(&source),
        target: Some(&target),
        target_known: true,
    };
    let (plan, problems) = compile(
        "      a: { from: A, type: text }\n      b: B\n      c: C",
        "",
        schemas,
    );
    let types: Vec<DataType> = plan
        .unwrap()
        .table()
        .columns
        .iter()
        .map(|column| column.ty)
        .collect();
    let text = DataType::Text { max: None };
    assert_eq!(
        types,
        [DataType::Uuid, text, DataType::Int64, DataType::Int32]
    );
    assert_eq!(
        problems.iter().map(|p| p.code).collect::<Vec<_>>(),
        ["type-mismatch"]
    );
}

#[test]
fn a_map_that_cannot_work_is_found_when_compiling() {
    let source = StreamSchema {
        fields: vec![FieldSchema {
            name: "Id".into(),
            ty: None,
            nullable: false,
        }],
        key: vec!["Id".into()],
    };
    let column = |name: &str, nullable, computed| ColumnSchema {
        name: name.into(),
        ty: None,
        native: "text".into(),
        nullable,
        defaulted: false,
        computed,
    };
    let target = TableSchema {
        columns: vec![
            column("id", false, false),
            column("total", true, true),
            column("must", false, false),
        ],
        key: vec!["company".into(), "id".into()],
        own: false,
    };
    let schemas = Schemas {
        source: Some(&source),
        target: Some(&target),
        target_known: true,
    };
    let definition = definition(
        "      nmae: Name\n      total: { value: 1 }\n      x: { expr: \"sr.a\" }",
        "",
    );
    let mut map = definition.maps.into_values().next().unwrap();
    map.to.existing = true;
    let (plan, problems) = Plan::compile(&map, schemas);
    assert!(plan.is_none());
    let codes: Vec<_> = problems
        .iter()
        .map(|problem| (problem.code, problem.at.as_str()))
        .collect();
    assert_eq!(
        codes,
        [
            ("bad-expression", "fields.x"),
            ("missing-field", "from.version"),
            ("missing-field", "fields.nmae"),
            ("missing-column", "fields.nmae"),
            ("read-only-column", "fields.total"),
            ("missing-column", "fields.x"),
            ("unmapped-mandatory", "fields"),
            ("key-mismatch", "to.key"),
        ]
    );
}

#[test]
fn a_constant_or_default_that_does_not_convert_is_found_when_compiling() {
    let fields = "      a: { from: A, type: integer, default: none }\n      b: { value: x, type: uuid }\n      c: { from: C, type: integer, values: { a: b } }";
    let (plan, problems) = compile(fields, "", Schemas::default());
    assert!(plan.is_none());
    let codes: Vec<_> = problems.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, ["bad-default", "bad-value", "bad-value"]);
}

#[test]
fn only_the_fields_it_needs_are_asked_for() {
    let plan = plan(FIELDS, "    filter: src.Status == 'active'");
    let mut reads = plan.reads().unwrap();
    reads.sort_unstable();
    assert_eq!(
        reads,
        [
            "Address",
            "Country",
            "Id",
            "Limit",
            "ModifiedAt",
            "Name",
            "Phone",
            "Status"
        ]
    );
}

#[test]
fn keys_go_there_and_back() {
    let plan = plan("      name: Name", "");
    let key = plan.parse_key(r"A\,1").unwrap();
    assert_eq!(key, [text("A,1")]);
    assert_eq!(key_text(&key), r"A\,1");
    assert_eq!(plan.source_key(&key), r#"{"Id":"A,1"}"#);
    assert_eq!(
        plan.key_of(&change(Op::Upsert, r#"{"Id":"A,1"}"#))
            .as_deref(),
        Some(r"A\,1")
    );
    assert_eq!(plan.key_of(&change(Op::Upsert, "{}")), None);
    assert!(
        plan.parse_key("a,b")
            .unwrap_err()
            .contains("the key of map `customers` has 1")
    );
}

proptest! {
    #[test]
    fn no_bytes_make_a_panic(raw in prop::collection::vec(any::<u8>(), 0..200)) {
        let plan = plan(FIELDS, "    filter: size(src) > 0");
        let change = Change { op: Op::Upsert, observed: 0, raw: raw.into(), failure: None };
        let mut rows = Rows::new(plan.table().columns.len());
        plan.map_change(&change, &mut rows, &mut Scratch::default());
    }

    #[test]
    fn any_text_goes_through_unchanged(value in "\\PC{0,60}") {
        let plan = plan("      name: Name", "");
        let raw = serde_json::json!({"Id": value, "Name": value, "ModifiedAt": 1}).to_string();
        let row = map(&plan, &raw).1;
        prop_assert_eq!(&row, &[text(&value), text(&value)]);
        let key = key_text(&row[..1]);
        prop_assert_eq!(plan.parse_key(&key).unwrap(), [text(&value)]);
    }
}

#[test]
fn an_expression_gives_the_right_number_or_none() {
    let plan = plan(
        "      share: { expr: \"src.Total / src.Count\", type: double, missing: \"null\" }
      big: { expr: \"src.Big\", type: decimal }",
        "",
    );
    let record = |count: &str, big: &str| {
        format!(r#"{{"Id":"1","ModifiedAt":"5","Total":10.5,"Count":{count},"Big":{big}}}"#)
    };
    let (_, row) = map(&plan, &record("2", "18446744073709551615"));
    assert_eq!(row[1], Value::Float(5.25));
    assert_eq!(row[2], Value::Decimal("18446744073709551615".into()));
    let failed = |field: &str| ("expression".to_owned(), Some(field.to_owned()));
    assert_eq!(code(&plan, &record("0", "1")), failed("share"));
    assert_eq!(
        code(&plan, &record("2", "12345678901234567.89")),
        failed("big")
    );
}
