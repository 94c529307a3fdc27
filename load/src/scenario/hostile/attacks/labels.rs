//! Requests with methods and paths that nobody has heard of: each must not become a series of the metrics.

use super::{
    super::{
        cast::attacker,
        field::{Field, together},
    },
    flood,
};

const ADDRESSES: usize = 8;

pub(super) async fn run(field: Field) -> Result<(), String> {
    let field = &field;
    together(ADDRESSES, |number| {
        let field = field.clone();
        async move {
            let make = |tried| {
                let head = match tried % 3 {
                    0 => format!("BREW{number}X{tried} /api/members"),
                    1 => format!("GET /api/pot-{number}-{tried}"),
                    _ => format!("BREW{number}X{tried} /pot/{number}/{tried}"),
                };
                (head, Vec::new())
            };
            flood::requests(field, attacker(140 + number), make).await
        }
    })
    .await
}
