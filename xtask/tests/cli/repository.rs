//! What must agree between folders that are built apart from each other.

use std::fs;

use crate::common::checkout;

/// The frontend's types are generated from a copy: its image is built from its own folder alone.
#[test]
fn the_frontend_has_the_backends_openapi() {
    let read = |path: &str| fs::read_to_string(checkout().join(path)).unwrap();
    assert!(
        read("apps/backend/openapi.json") == read("apps/frontend/openapi.json"),
        "cp apps/backend/openapi.json apps/frontend/ && (cd apps/frontend && node scripts/api-types.mjs)"
    );
}
