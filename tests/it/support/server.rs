//! The demo's warehouse on a PostgreSQL server instead of in a file.

use sample_crm::{SampleCrm, Set};
use test_postgres::TestDatabase;

use super::{Project, compare, query_of};

/// A project with the maps of `definition`, which write into a database.
pub(crate) fn on_server(definition: &str, database: &TestDatabase) -> Project {
    let file = "kind: sqlite\n    url: warehouse.db";
    let server = "kind: postgres\n    url: secret://warehouse";
    assert!(definition.contains(file), "there is no warehouse in a file");
    let project = Project::new(&definition.replace(file, server));
    project.secret("warehouse", &database.url());
    project
}

/// Rows that are only in the source, or only in the target, or differ.
pub(crate) async fn server_differences(crm: &SampleCrm, database: &TestDatabase) -> Vec<String> {
    let mut found = Vec::new();
    for set in Set::ALL {
        // PostgreSQL shows all places of a decimal.
        let sql = query_of(set)
            .replace("credit_limit,", "credit_limit::double precision,")
            .replace("total,", "total::double precision,");
        found.extend(compare(set, crm, database.query(&sql).await));
    }
    found
}

/// Asserts that the database holds exactly what the source does.
pub(crate) async fn assert_equal_on_server(crm: &SampleCrm, database: &TestDatabase) {
    let found = server_differences(crm, database).await;
    assert!(
        found.is_empty(),
        "{} differences: {:#?}",
        found.len(),
        &found[..found.len().min(10)]
    );
}
