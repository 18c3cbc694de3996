//! The document says what the routes are.

use std::collections::BTreeSet;

use axum::http::Method;

use super::routes;

/// Web hooks and streams of one contract's events, as every program with call-backs serves them.
const CALLBACKS: [(Method, &str); 6] = [
    (Method::GET, "/v1/events"),
    (Method::POST, "/v1/subscriptions"),
    (Method::GET, "/v1/subscriptions"),
    (Method::GET, "/v1/subscriptions/{id}"),
    (Method::DELETE, "/v1/subscriptions/{id}"),
    (Method::POST, "/v1/subscriptions/{id}/resume"),
];

#[test]
fn the_document_describes_every_route_and_no_other() {
    let document = crate::openapi::value().unwrap();
    let described: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, operations)| {
            operations
                .as_object()
                .unwrap()
                .keys()
                .map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let served: BTreeSet<String> = routes()
        .iter()
        .map(|route| format!("{} {}", route.method, route.path))
        .chain(CALLBACKS.iter().map(|(method, path)| format!("{method} {path}")))
        .collect();
    let missing: Vec<_> = served.difference(&described).collect();
    let invented: Vec<_> = described.difference(&served).collect();
    assert!(missing.is_empty(), "not described: {missing:?}");
    assert!(invented.is_empty(), "not served: {invented:?}");
}

#[test]
fn operations_have_names_of_their_own() {
    let document = crate::openapi::value().unwrap();
    let mut names = BTreeSet::new();
    for operations in document["paths"].as_object().unwrap().values() {
        for operation in operations.as_object().unwrap().values() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} twice");
        }
    }
}
