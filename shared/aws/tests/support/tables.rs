//! The tables of a deployment.

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
        Projection, ProjectionType, ScalarAttributeType,
    },
};

/// The indexes: name, keys, and what is projected besides.
const INDEXES: [(&str, [&str; 2], &[&str]); 4] = [
    (
        "by_age",
        ["shard", "age"],
        &["map", "key", "class", "fp", "status", "run", "news", "last"],
    ),
    (
        "by_map",
        ["map_shard", "age"],
        &["key", "class", "fp", "status", "run", "news", "last"],
    ),
    (
        "by_news",
        ["said", "age"],
        &["key", "class", "fp", "status", "run", "last"],
    ),
    (
        "by_due",
        ["due_shard", "due"],
        &["rev", "map", "run", "outcome", "weight", "blob"],
    ),
];

fn keys([hash, range]: [&str; 2]) -> Vec<KeySchemaElement> {
    [(hash, KeyType::Hash), (range, KeyType::Range)]
        .map(|(name, kind)| {
            let key = KeySchemaElement::builder().attribute_name(name);
            key.key_type(kind).build().unwrap()
        })
        .into()
}

/// Makes a table, that of failures with their indexes or that of the state without any, as the
/// template does.
pub(crate) async fn create(client: &Client, name: &str, failures: bool) {
    let mut names = vec!["pk", "sk"];
    let mut table = client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(keys(["pk", "sk"])));
    for (name, of, projected) in INDEXES.into_iter().filter(|_| failures) {
        names.extend(of);
        let projected = projected.iter().map(|name| (*name).to_owned()).collect();
        let projection = Projection::builder()
            .projection_type(ProjectionType::Include)
            .set_non_key_attributes(Some(projected))
            .build();
        let index = GlobalSecondaryIndex::builder()
            .index_name(name)
            .set_key_schema(Some(keys(of)))
            .projection(projection)
            .build()
            .unwrap();
        table = table.global_secondary_indexes(index);
    }
    names.sort_unstable();
    names.dedup();
    for name in names {
        let attribute = AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(ScalarAttributeType::S)
            .build()
            .unwrap();
        table = table.attribute_definitions(attribute);
    }
    table.send().await.expect("the table is made");
}
