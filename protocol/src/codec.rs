//! The codec of both directions.
//!
//! A good frame is read in one pass: its `type` comes first, and says what the fields after it are read as. Whatever that pass
//! does not take is read again, the tag first and then the frame of that type, which says exactly what is wrong with it. An
//! internally tagged serde enum would copy every frame through a buffer, and its errors would not name the field.

mod one_pass;
mod words;
mod write;

use std::{borrow::Cow, fmt, marker::PhantomData};

use garde::Validate;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;

pub(crate) use one_pass::{Frames, in_one_pass};
use words::in_plain_words;
pub(crate) use write::{begin, encode, finish, write};

use crate::{ErrorCode, FieldError, RequestId, limits::REFUSED_SCAN_BYTES};

/// Longest message about a bad field, in characters.
const MESSAGE_MAX_CHARS: usize = 300;
/// What is said of a field that has to be there.
const REQUIRED: &str = "required";
/// What is said of a field that is there twice.
const REPEATED: &str = "given more than once";

/// Why a text is not a frame of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    /// The `id` of the request, if it could be read.
    pub id: Option<RequestId>,
    /// `malformed`, `unknown_type` or `validation_failed`.
    pub code: ErrorCode,
    /// The path of the bad field, if it is one field.
    pub field: Option<String>,
    /// What is wrong, for people.
    pub message: String,
}

impl DecodeError {
    fn malformed(message: impl Into<String>) -> Self {
        Self { id: None, code: ErrorCode::Malformed, field: None, message: message.into() }
    }

    fn field(error: FieldError) -> Self {
        let FieldError { field, message } = error;
        // It may quote what was sent.
        let message: String = message.chars().take(MESSAGE_MAX_CHARS).collect();
        let message = if field.is_empty() { message } else { format!("{field}: {message}") };
        let field = Some(field).filter(|field| !field.is_empty());
        Self { id: None, code: ErrorCode::ValidationFailed, field, message }
    }

    pub(crate) fn unknown_type(name: &str) -> Self {
        let shown: String = name.chars().take(64).collect();
        Self {
            id: None,
            code: ErrorCode::UnknownType,
            field: Some("type".to_owned()),
            message: format!("there is no frame of type {shown:?}"),
        }
    }

    pub(crate) fn with_id(mut self, id: Option<RequestId>) -> Self {
        self.id = id;
        self
    }
}

/// What every frame has: its type and, if it asks or answers, an id.
#[derive(Deserialize)]
pub(crate) struct Head<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) frame_type: Cow<'a, str>,
    #[serde(default)]
    pub(crate) id: Option<RequestId>,
}

impl<'a> Head<'a> {
    pub(crate) fn read(text: &'a str) -> Result<Self, DecodeError> {
        // serde would read a struct from an array too.
        if !text.trim_ascii_start().starts_with('{') {
            return Err(DecodeError::malformed("a frame is a JSON object"));
        }
        serde_json::from_str(text).map_err(|error| {
            if error.is_data() {
                // Only now, and not for every frame: the slow reader that keeps the path.
                from_json::<Self>(text)
                    .map_or_else(DecodeError::field, |_| DecodeError::malformed(error.to_string()))
                    .with_id(peek_id(text))
            } else {
                DecodeError::malformed(format!("not JSON: {}", json_problem(&error))).with_id(peek_id(text))
            }
        })
    }
}

/// Reads the body of a frame whose head was read, and checks the rules of its fields.
pub(crate) fn body<T>(text: &str) -> Result<T, DecodeError>
where
    T: DeserializeOwned + Validate<Context = ()>,
{
    let body: T = match serde_json::from_str(text) {
        Ok(body) => body,
        Err(_) => from_json(text).map_err(DecodeError::field)?,
    };
    body.validate().map_err(|report| {
        let first = report.iter().next();
        DecodeError::field(first.map_or_else(
            || FieldError { field: String::new(), message: "not valid".to_owned() },
            |(path, error)| FieldError { field: path.to_string(), message: error.to_string() },
        ))
    })?;
    Ok(body)
}

/// Deserialises JSON with errors that name the path of the bad field.
///
/// # Errors
/// The first field that does not fit, with what was expected of it.
pub(crate) fn from_json<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, FieldError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| absent_if_null(text, name_field(&error)))
}

/// `null` for a field that is required is the same as none: of both it is said that they are.
fn absent_if_null(text: &str, error: FieldError) -> FieldError {
    let at = format!("/{}", error.field.replace('.', "/"));
    let is_null = text.contains("null")
        && serde_json::from_str::<Value>(text).is_ok_and(|frame| frame.pointer(&at).is_some_and(Value::is_null));
    if is_null { FieldError { message: REQUIRED.to_owned(), ..error } } else { error }
}

/// Turns an error of serde into one that names its field.
pub(crate) fn name_field(error: &serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    let text = error.inner().to_string();
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    let path = error.path().to_string();
    let parent = if path == "." { String::new() } else { path };
    // serde reports a missing field, and one that is there twice, at its parent and names it in the message only.
    let named = [("missing field `", REQUIRED), ("duplicate field `", REPEATED)];
    let named = named.iter().find_map(|(begin, said)| Some((message.strip_prefix(begin)?.strip_suffix('`')?, said)));
    match named {
        Some((name, said)) => FieldError {
            field: if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") },
            message: (*said).to_owned(),
        },
        None => FieldError { field: parent, message: in_plain_words(message).into_owned() },
    }
}

/// What is wrong with a JSON text, and where, for people.
#[must_use]
pub fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((message, place)) => format!("{}, at line {place}", in_plain_words(message)),
        None => text,
    }
}

/// Reads a body and checks it, collecting *every* bad field, in the order of their names.
///
/// Made for the bodies in [`crate::rest`], all of whose fields have a default.
///
/// # Errors
/// One error per bad field; a body that is no JSON object gives one error with an empty field.
pub fn parse_body<T>(body: Value) -> Result<T, Vec<FieldError>>
where
    T: DeserializeOwned + Validate<Context = ()>,
{
    let mut rest = body;
    if !rest.is_object() {
        return Err(vec![FieldError { field: String::new(), message: "expected a JSON object".to_owned() }]);
    }
    let mut errors: Vec<FieldError> = Vec::new();
    let parsed: T = loop {
        match serde_path_to_error::deserialize(rest.clone()) {
            Ok(parsed) => break parsed,
            Err(error) => {
                let bad = name_field(&error);
                // Without the bad field the others can be looked at: every field of a body has a default.
                let removed = remove(&mut rest, &bad.field);
                // One that is required is missing then: that is said already.
                if !errors.iter().any(|known| known.field == bad.field) {
                    errors.push(bad);
                }
                if !removed {
                    return Err(errors);
                }
            }
        }
    };
    if let Err(report) = parsed.validate() {
        for (path, error) in report.iter() {
            let field = path.to_string();
            if !errors.iter().any(|known| known.field == field) {
                errors.push(FieldError { field, message: error.to_string() });
            }
        }
    }
    errors.sort_by(|a, b| a.field.cmp(&b.field));
    if errors.is_empty() { Ok(parsed) } else { Err(errors) }
}

/// Removes the value at a dotted path; false if there is none.
fn remove(value: &mut Value, path: &str) -> bool {
    let (parent, key) = match path.rsplit_once('.') {
        Some((parent, key)) => (value.pointer_mut(&format!("/{}", parent.replace('.', "/"))), key),
        None => (Some(value), path),
    };
    parent.and_then(Value::as_object_mut).is_some_and(|object| object.remove(key).is_some())
}

/// Deserialises an integer that is not negative. JSON knows one kind of number: `1.0` and `1e0` are the integer 1 too, as
/// JSON Schema has it (2020-12, section 6.1.1).
pub(crate) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Integer;

    impl Visitor<'_> for Integer {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an integer that is not negative")
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
            Ok(value)
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
            u64::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
        }

        fn visit_f64<E: de::Error>(self, value: f64) -> Result<u64, E> {
            // Up to 2^53 - 1 every integer has a float of its own, and its text is exact. -0 becomes 0.
            let value = value + 0.0;
            let whole = value.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&value);
            let exact = whole.then(|| format!("{value:.0}").parse().ok()).flatten();
            exact.ok_or_else(|| E::invalid_value(Unexpected::Float(value), &self))
        }
    }

    deserializer.deserialize_u64(Integer)
}

/// [`integer`] for a field that may be absent.
pub(crate) fn optional_integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    struct Wrapped(#[serde(deserialize_with = "integer")] u64);

    Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|Wrapped(value)| value))
}

/// [`optional_integer`] for a number of things.
pub(crate) fn optional_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    // A number that is too large is refused by the range of its field.
    Ok(optional_integer(deserializer)?.map(|value| u32::try_from(value).unwrap_or(u32::MAX)))
}

/// `null` is the same as a flag that is left out: it is not set.
pub(crate) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The `id` of a frame that is refused without being decoded. Looks through the first [`REFUSED_SCAN_BYTES`] for a field of
/// the frame itself; `None` if it stands further back, or is not a valid id.
#[must_use]
pub fn peek_id(text: &str) -> Option<RequestId> {
    let bytes = text.as_bytes();
    let bytes = bytes.get(..REFUSED_SCAN_BYTES).unwrap_or(bytes);
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b'"' => {
                let end = end_of_string(bytes, at)?;
                if depth == 1 && bytes.get(at..end) == Some(b"id") {
                    let value = bytes.get(end + 1..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
                    let end = end_of_string(value, value.starts_with(b"\"").into()).filter(|end| *end > 0)?;
                    return serde_json::from_slice(value.get(..=end)?).ok();
                }
                at = skip_value_string(bytes, end + 1)?;
            }
            _ => {}
        }
    }
    None
}

/// Where a JSON string that begins at `at` ends: the place of its closing quote.
fn end_of_string(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// After the name of a field: past its value, if that is a string; so no text of a member is taken for a name.
fn skip_value_string(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let Some(value) = rest.trim_ascii_start().strip_prefix(b":") else { return Some(at) };
    let value = value.trim_ascii_start();
    let begin = bytes.len() - value.len();
    if value.first() == Some(&b'"') { Some(end_of_string(bytes, begin + 1)? + 1) } else { Some(begin) }
}

/// Deserialises a nested struct from an object only; serde's derive would take an array too.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Object(PhantomData))
}

/// Defines the frames of one direction: the enum, its type names, and its codec.
macro_rules! frames {
    (
        $(#[$enum_doc:meta])*
        pub enum $enum:ident {
            $($(#[doc = $doc:literal])* $name:literal => $frame:ident $(, reply $reply:literal)?;)*
        }
    ) => {
        $(#[$enum_doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $enum {
            $($(#[doc = $doc])* $frame($frame),)*
        }

        impl $enum {
            /// The `type` of every frame of this direction, in the order of the documentation.
            pub const TYPES: &[&str] = &[$($name,)*];

            /// The `type` of this frame.
            #[must_use]
            pub const fn frame_type(&self) -> &'static str {
                match self { $(Self::$frame(_) => $name,)* }
            }

            /// The place of this frame's type in [`Self::TYPES`].
            #[must_use]
            pub const fn index(&self) -> usize {
                match self { $(Self::$frame(_) => $frame::INDEX,)* }
            }

            /// Writes the frame as JSON, with the id of the request that it is or answers.
            #[must_use]
            pub fn encode(&self, id: Option<&$crate::RequestId>) -> String {
                match self { $(Self::$frame(body) => $crate::codec::encode($frame::TYPE, id, body),)* }
            }

            fn decode_parts(text: &str) -> Result<(Option<$crate::RequestId>, Self), $crate::DecodeError> {
                match $crate::codec::in_one_pass(text) {
                    Some(frame) => Ok(frame),
                    None => Self::decode_twice(text),
                }
            }

            /// Reads the head of a frame and then its body: says what is wrong with either.
            fn decode_twice(text: &str) -> Result<(Option<$crate::RequestId>, Self), $crate::DecodeError> {
                let head = $crate::codec::Head::read(text)?;
                let frame = match &*head.frame_type {
                    $($name => $crate::codec::body(text).map(Self::$frame),)*
                    other => Err($crate::DecodeError::unknown_type(other)),
                };
                match frame {
                    Ok(frame) => Ok((head.id, frame)),
                    Err(error) => Err(error.with_id(head.id)),
                }
            }

            /// What the documents are generated from.
            #[cfg(feature = "codegen")]
            #[must_use]
            pub fn catalogue() -> Vec<$crate::codegen::FrameType> {
                vec![$($crate::codegen::FrameType::of::<$frame>(
                    $name,
                    concat!($($doc,)*).trim(),
                    None::<&str>$(.or(Some($reply)))?,
                ),)*]
            }
        }

        /// The discriminants of an enum without fields that has the same variants count from zero.
        enum Index { $($frame,)* }

        $(impl $frame {
            /// The `type` of this frame.
            pub const TYPE: &str = $name;
            /// The place of its type among those of its direction.
            pub const INDEX: usize = Index::$frame as usize;
        })*

        impl $crate::codec::Frames for $enum {
            fn read<'de, D: serde::Deserializer<'de>>(frame_type: &str, body: D) -> Option<Result<Self, D::Error>> {
                match frame_type {
                    $($name => Some($frame::deserialize(body).map(Self::$frame)),)*
                    _ => None,
                }
            }

            fn is_valid(&self) -> bool {
                match self { $(Self::$frame(body) => body.validate().is_ok(),)* }
            }
        }
    };
}

pub(crate) use frames;
