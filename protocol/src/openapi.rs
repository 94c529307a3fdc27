//! Schemas for an OpenAPI document, of the types that are plain strings on the wire.

/// Describes a type by a JSON Schema, under its own name.
macro_rules! describe {
    ($name:ident, $schema:tt) => {
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::openapi::parse(serde_json::json!($schema))
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }
    };
}

pub(crate) use describe;

/// Reads a schema that is written in this crate; the test of the document shows that each can be read.
pub(crate) fn parse(schema: serde_json::Value) -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
    serde_json::from_value(schema).unwrap_or_default()
}
