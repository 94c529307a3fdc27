//! Ten members search for words of one letter, which nearly everybody in the directory has.

use super::{
    super::{
        cast::{Kind, SEARCHERS, home},
        field::{Field, together},
        http::signed,
    },
    flood,
};

/// Searches of one member at the same time.
const AT_ONCE: usize = 4;

pub(super) async fn run(field: Field) -> Result<(), String> {
    let members = field.cast.all(&field.cast.layout.searchers).to_vec();
    let field = &field;
    together(SEARCHERS * AT_ONCE, |number| {
        let (field, member) = (field.clone(), members.get(number % SEARCHERS).cloned());
        async move {
            let token = member.ok_or("a member is missing")?.token;
            // Every member of the directory is called "Load" and a number.
            let make =
                |tried: u64| (signed(&format!("GET /api/members/search?q=l+{}", 1 + tried % 9), &token), Vec::new());
            flood::requests(field, home(Kind::Member, 10 + number % SEARCHERS), make).await
        }
    })
    .await
}
