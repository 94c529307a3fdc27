//! Reading a good frame in one pass.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IntoDeserializer as _, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::RequestId;

/// The frames of one direction, by their types.
pub(crate) trait Frames: Sized {
    /// Reads the body of a frame of that type; nothing if there is none.
    fn read<'de, D: Deserializer<'de>>(frame_type: &str, body: D) -> Option<Result<Self, D::Error>>;

    /// Whether the fields keep their rules.
    fn is_valid(&self) -> bool;
}

/// Reads a good frame in one pass. `None` says nothing but that it has to be read the other way: see [`Head`](super::Head).
pub(crate) fn in_one_pass<F: Frames>(text: &str) -> Option<(Option<RequestId>, F)> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let (id, frame): (_, F) = reader.deserialize_map(OnePass(PhantomData)).ok()?;
    reader.end().ok()?;
    frame.is_valid().then_some((id, frame))
}

struct OnePass<F>(PhantomData<F>);

impl<'de, F: Frames> Visitor<'de> for OnePass<F> {
    type Value = (Option<RequestId>, F);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields { map, id: None };
        // Before the type there may be an id, and nothing else.
        let frame_type = match fields.next_name()? {
            Some(Name(name)) if name == "type" => fields.map.next_value::<Name<'de>>()?,
            _ => return Err(de::Error::custom("no type")),
        };
        let body = MapAccessDeserializer::new(Rest { fields: &mut fields });
        let frame = F::read(&frame_type.0, body).unwrap_or_else(|| Err(de::Error::custom("no such type")))?;
        Ok((fields.id.flatten(), frame))
    }
}

/// A name or a type: borrowed, unless it is written with escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The fields of a frame. The `id` is taken out wherever it stands.
struct Fields<A> {
    map: A,
    id: Option<Option<RequestId>>,
}

impl<'de, A: MapAccess<'de>> Fields<A> {
    fn next_name(&mut self) -> Result<Option<Name<'de>>, A::Error> {
        loop {
            match self.map.next_key::<Name<'de>>()? {
                Some(Name(name)) if name == "id" => {
                    let id = self.map.next_value()?;
                    if self.id.replace(id).is_some() {
                        return Err(de::Error::custom("a second id"));
                    }
                }
                name => return Ok(name),
            }
        }
    }
}

/// The fields after the `type`.
struct Rest<'a, A> {
    fields: &'a mut Fields<A>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.fields.next_name()? {
            Some(Name(name)) if name == "type" => Err(de::Error::custom("a second type")),
            Some(Name(name)) => seed.deserialize(name.into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.fields.map.next_value_seed(seed)
    }
}
