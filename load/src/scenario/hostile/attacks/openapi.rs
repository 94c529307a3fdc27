//! Anonymous requests for the OpenAPI document, compressed: a quarter of a megabyte of JSON each time.

use super::{
    super::{
        cast::attacker,
        field::{Field, together},
    },
    flood,
};

const ADDRESSES: usize = 4;
/// Requests of one address at the same time.
const AT_ONCE: usize = 4;

pub(super) async fn run(field: Field) -> Result<(), String> {
    let field = &field;
    together(ADDRESSES * AT_ONCE, |number| {
        let field = field.clone();
        async move {
            let coding = if number % 2 == 0 { "br" } else { "gzip" };
            let head = format!("GET /api/openapi.json\nAccept-Encoding: {coding}");
            flood::requests(field, attacker(130 + number % ADDRESSES), |_| (head.clone(), Vec::new())).await
        }
    })
    .await
}
