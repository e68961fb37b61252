//! JSON objects: one record → one value a column. Numbers are read from their source text, so that 64-bit integers and
//! decimals are exact.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::columns::{ColumnBuilder, Refused, Values};
use super::flat;
use super::header::{Names, normalized};
use super::notes::NotesState;
use super::rows::{Fault, Sink};
use crate::reject::Reason;

/// Spellings of keys that a parser remembers. Records repeat their keys, so the cache is small in practice.
const KEYS_MAX: usize = 4096;
/// Longest key that is remembered or reported, in bytes.
const KEY_BYTES_MAX: usize = 256;

/// Reads JSON objects; keeps what one thread learned about keys.
#[derive(Debug)]
pub(crate) struct JsonParser {
    names: Arc<Names>,
    notes: Arc<NotesState>,
    /// Spellings of keys in the order in which they first came, with their columns.
    seen: Vec<(Box<str>, Option<usize>)>,
    /// Where in `seen` a spelling is.
    places: HashMap<Box<str>, usize>,
    /// Where in `seen` the next key is looked for first: records repeat their keys in order.
    next: usize,
    /// Where in the record each column's value is.
    values: Vec<Option<Range<usize>>>,
    /// A column that two keys of the record go by.
    repeated: Option<usize>,
}

impl JsonParser {
    pub(crate) fn new(names: Arc<Names>, notes: Arc<NotesState>, columns: usize) -> Self {
        Self {
            names,
            notes,
            seen: Vec::new(),
            places: HashMap::new(),
            next: 0,
            values: vec![None; columns],
            repeated: None,
        }
    }

    /// Reads `record` into the sink. `cut` says that the input ends with this record and without a line end.
    pub(crate) fn parse(&mut self, record: &[u8], cut: bool, sink: &mut Sink) -> Result<(), Fault> {
        let text = simdutf8::basic::from_utf8(record)
            .map_err(|_| Fault::record(Reason::BadUtf8, "the record is not valid UTF-8"))?;
        self.begin();
        if flat::members(text, |key, value| self.take_member(key, value)).is_none() {
            self.begin();
            self.parse_any(text, cut)?;
        }
        if let Some(index) = self.repeated {
            let message = "two keys of the record go by this column".to_owned();
            return Err(Fault { reason: Reason::BadJson, column: Some(index), message });
        }
        for (index, range) in self.values.iter().enumerate() {
            match range.as_ref().map(|range| &text[range.clone()]) {
                None | Some("null") => sink.push_null(index)?,
                Some(raw) => push_value(sink, index, raw)?,
            }
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.values.fill(None);
        self.repeated = None;
        self.next = 0;
    }

    /// Reads what may be anything at all.
    fn parse_any(&mut self, text: &str, cut: bool) -> Result<(), Fault> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let parsed = Object { parser: self, base: text.as_ptr() as usize }.deserialize(&mut deserializer);
        parsed.and_then(|()| deserializer.end()).map_err(|error| {
            let reason = if cut && error.is_eof() { Reason::Truncated } else { Reason::BadJson };
            Fault::record(reason, error.to_string())
        })
    }

    #[inline]
    fn take_member(&mut self, key: &str, value: Range<usize>) {
        if let Some(column) = self.column_of(key) {
            self.take_value(column, value);
        }
    }

    fn take_value(&mut self, column: usize, value: Range<usize>) {
        if self.values[column].replace(value).is_some() {
            self.repeated = Some(column);
        }
    }

    #[inline]
    fn column_of(&mut self, key: &str) -> Option<usize> {
        match self.seen.get(self.next) {
            Some((expected, column)) if **expected == *key => {
                self.next += 1;
                *column
            }
            _ => self.column_out_of_order(key),
        }
    }

    fn column_out_of_order(&mut self, key: &str) -> Option<usize> {
        if let Some(place) = self.places.get(key) {
            self.next = place + 1;
            return self.seen[*place].1;
        }
        let column = self.names.find(key);
        if column.is_none() && key.len() <= KEY_BYTES_MAX {
            self.notes.unknown_key(&normalized(key), key);
        }
        if self.seen.len() < KEYS_MAX && key.len() <= KEY_BYTES_MAX {
            self.places.insert(key.into(), self.seen.len());
            self.seen.push((key.into(), column));
            self.next = self.seen.len();
        }
        column
    }
}

/// Reads the object's members into [`JsonParser::values`]. Which of two keys for one column counts nobody can know: JSON
/// leaves it open, and parsers differ.
struct Object<'a> {
    parser: &'a mut JsonParser,
    base: usize,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(column) = map.next_key_seed(Key { parser: self.parser })? {
            let Some(column) = column else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let raw = map.next_value::<&'de RawValue>()?.get();
            let start = raw.as_ptr() as usize - self.base;
            self.parser.take_value(column, start..start + raw.len());
        }
        Ok(())
    }
}

struct Key<'a> {
    parser: &'a mut JsonParser,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.parser.column_of(key))
    }
}

fn push_value(sink: &mut Sink, index: usize, raw: &str) -> Result<(), Fault> {
    match scalar(raw) {
        // The sink decides what an empty string means to the column.
        Ok(Some(text)) => sink.push_field(index, text.as_bytes(), true),
        Ok(None) if sink.column_mut(index).is_text() => sink.push_field(index, raw.as_bytes(), true),
        Ok(None) => push_nested(sink.column_mut(index), raw).map_err(|Refused| sink.bad_value(index, raw.as_bytes())),
        Err(Refused) => Err(sink.bad_value(index, raw.as_bytes())),
    }
}

/// The text of a string, number or boolean; `None` for an array or object.
fn scalar(raw: &str) -> Result<Option<Cow<'_, str>>, Refused> {
    match raw.as_bytes().first() {
        Some(b'"') => {
            let inner = raw.get(1..raw.len() - 1).ok_or(Refused)?;
            if !inner.contains('\\') {
                return Ok(Some(Cow::Borrowed(inner)));
            }
            serde_json::from_str::<String>(raw).map(|text| Some(Cow::Owned(text))).map_err(|_| Refused)
        }
        Some(b'[' | b'{') => Ok(None),
        _ => Ok(Some(Cow::Borrowed(raw))),
    }
}

/// Appends any JSON value to a column inside a list or struct, where null is always possible unless the field says no.
fn push_any(column: &mut ColumnBuilder, nullable: bool, raw: Option<&str>) -> Result<(), Refused> {
    let Some(raw) = raw.filter(|raw| *raw != "null") else {
        if nullable {
            column.push_null();
        }
        return nullable.then_some(()).ok_or(Refused);
    };
    let Some(text) = scalar(raw)? else {
        return if column.is_text() { column.push_text(raw.as_bytes()) } else { push_nested(column, raw) };
    };
    let text = if column.is_text() { text.as_bytes() } else { text.as_bytes().trim_ascii() };
    if text.is_empty() && !column.is_text() {
        return push_any(column, nullable, None);
    }
    column.push_text(text)
}

/// The members of an object in order, by normalized name.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
            members.push((normalized(&key), value));
        }
        Ok(Members(members))
    }
}

/// Appends an array or object to a list or struct column. A half-read value is cut back with its record.
fn push_nested(column: &mut ColumnBuilder, raw: &str) -> Result<(), Refused> {
    match &mut column.values {
        Values::List(lists) => {
            let nullable = lists.field.is_nullable();
            let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| Refused)?;
            items.iter().try_for_each(|item| push_any(&mut lists.items, nullable, Some(item.get())))?;
        }
        Values::Struct(structs) => {
            let Members(members) = serde_json::from_str(raw).map_err(|_| Refused)?;
            for (field, column) in structs.fields.iter().zip(&mut structs.columns) {
                let name = normalized(field.name());
                let mut named = members.iter().filter(|(key, _)| *key == name);
                let value = named.next().map(|(_, value)| value.get());
                if named.next().is_some() {
                    return Err(Refused);
                }
                push_any(column, field.is_nullable(), value)?;
            }
        }
        _ => return Err(Refused),
    }
    column.end_nested()
}
