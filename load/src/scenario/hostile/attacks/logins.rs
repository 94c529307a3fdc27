//! Wrong passwords, for accounts that there are and for others, from ten addresses, each in a network of its own: each costs the server a hash.

use protocol::rest::LoginRequest;

use super::{
    super::{
        cast::elsewhere,
        field::{Field, together},
    },
    flood,
};

const ADDRESSES: usize = 10;
/// Logins of one address at the same time.
const AT_ONCE: usize = 8;

pub(super) async fn run(field: Field) -> Result<(), String> {
    let emails: Vec<String> =
        field.cast.all(&field.cast.layout.directory).iter().take(500).map(|member| member.email.clone()).collect();
    let field = &field;
    together(ADDRESSES * AT_ONCE, |number| {
        let (field, emails) = (field.clone(), emails.clone());
        async move {
            let make = |tried: u64| {
                let pick = number * 7 + usize::try_from(tried).unwrap_or_default();
                let known = emails.get(pick % emails.len().max(1)).filter(|_| tried.is_multiple_of(2)).cloned();
                let email = known.unwrap_or_else(|| format!("nobody-{pick}@load.example.com"));
                let body = serde_json::to_vec(&LoginRequest {
                    email,
                    password: "wrong password".to_owned(),
                    ..LoginRequest::default()
                });
                let head = "POST /api/auth/login\nContent-Type: application/json".to_owned();
                (head, body.unwrap_or_default())
            };
            flood::requests(field, elsewhere(number % ADDRESSES), make).await
        }
    })
    .await
}
