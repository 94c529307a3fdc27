//! What utoipa derives otherwise than the server does.
//!
//! Bodies are read with `#[serde(default)]`, so that every bad field can be named and not only the first missing one. From
//! that come defaults of fields that have to be given, and `null` for fields that may only be left out.

use serde_json::Value;
use utoipa::openapi::{
    OpenApi, RefOr, Schema, Type,
    path::{Operation, Parameter},
    schema::{Object, SchemaType},
};

/// Makes the schemas of bodies say what the server does.
pub(super) fn schemas(document: &mut OpenApi) {
    for schema in document.components.iter_mut().flat_map(|components| components.schemas.values_mut()) {
        if let RefOr::T(Schema::Object(Object { properties, required, .. })) = schema {
            for (name, property) in properties.iter_mut() {
                let Some(default) = default_of(property) else { continue };
                if required.contains(name) || *default == Some(Value::Null) {
                    *default = None;
                }
            }
        }
    }
}

fn default_of(schema: &mut RefOr<Schema>) -> Option<&mut Option<Value>> {
    Some(match schema {
        RefOr::Ref(reference) => &mut reference.default,
        RefOr::T(Schema::Array(array)) => &mut array.default,
        RefOr::T(Schema::Object(object)) => &mut object.default,
        RefOr::T(Schema::OneOf(one)) => &mut one.default,
        RefOr::T(Schema::AllOf(all)) => &mut all.default,
        RefOr::T(Schema::AnyOf(any)) => &mut any.default,
        RefOr::T(_) => return None,
    })
}

/// A header or a body that may be left out is never `null`.
pub(super) fn optional(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(Parameter { schema: Some(RefOr::T(Schema::Object(object))), .. }) = parameter
            && let SchemaType::Array(types) = &object.schema_type
            && let [only] = types.iter().filter(|kind| **kind != Type::Null).collect::<Vec<_>>()[..]
        {
            object.schema_type = SchemaType::Type(only.clone());
        }
    }
    let Some(RefOr::T(body)) = &mut operation.request_body else { return };
    for content in body.content.values_mut() {
        if let RefOr::T(content) = content
            && let Some(RefOr::T(Schema::OneOf(one))) = &content.schema
            && let [form, RefOr::T(Schema::Object(Object { schema_type: SchemaType::Type(Type::Null), .. }))] =
                &one.items[..]
        {
            content.schema = Some(form.clone());
        }
    }
}
