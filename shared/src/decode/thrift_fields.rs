//! The fields of Parquet's footers and page headers, and of which kind each is.
//!
//! Source: <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>.

use super::thrift::{BINARY, BYTE, DOUBLE, INTEGER, LONG, SHORT};

/// A field that is known, by its number.
pub(super) struct Known(pub(super) i64, pub(super) Kind);

/// Of which kind a field is.
pub(super) enum Kind {
    Boolean,
    /// Of the protocol's kind of this number, with nothing in it.
    Plain(u8),
    Structure(&'static [Known]),
    List(&'static Kind),
}

const BOOL: Kind = Kind::Boolean;
const I8: Kind = Kind::Plain(BYTE);
const I16: Kind = Kind::Plain(SHORT);
const I32: Kind = Kind::Plain(INTEGER);
const I64: Kind = Kind::Plain(LONG);
const F64: Kind = Kind::Plain(DOUBLE);
const BYTES: Kind = Kind::Plain(BINARY);
/// A structure of which nothing is known, or that has no fields.
const OTHER: Kind = Kind::Structure(&[]);

/// `PageHeader`.
pub(super) const PAGE_HEADER: &[Known] = &[
    Known(1, I32),
    Known(2, I32),
    Known(3, I32),
    Known(4, I32),
    Known(5, Kind::Structure(DATA_PAGE)),
    Known(6, OTHER),
    Known(7, Kind::Structure(&[Known(1, I32), Known(2, I32), Known(3, BOOL)])),
    Known(8, Kind::Structure(DATA_PAGE_2)),
];

const DATA_PAGE: &[Known] =
    &[Known(1, I32), Known(2, I32), Known(3, I32), Known(4, I32), Known(5, Kind::Structure(STATISTICS))];

const DATA_PAGE_2: &[Known] = &[
    Known(1, I32),
    Known(2, I32),
    Known(3, I32),
    Known(4, I32),
    Known(5, I32),
    Known(6, I32),
    Known(7, BOOL),
    Known(8, Kind::Structure(STATISTICS)),
];

const STATISTICS: &[Known] = &[
    Known(1, BYTES),
    Known(2, BYTES),
    Known(3, I64),
    Known(4, I64),
    Known(5, BYTES),
    Known(6, BYTES),
    Known(7, BOOL),
    Known(8, BOOL),
];

/// `FileMetaData`, which is the footer.
pub(super) const FILE_METADATA: &[Known] = &[
    Known(1, I32),
    Known(2, Kind::List(&Kind::Structure(SCHEMA_ELEMENT))),
    Known(3, I64),
    Known(4, Kind::List(&Kind::Structure(ROW_GROUP))),
    Known(5, Kind::List(&Kind::Structure(KEY_VALUE))),
    Known(6, BYTES),
    Known(7, Kind::List(&Kind::Structure(&[Known(1, OTHER)]))),
    Known(8, OTHER),
    Known(9, BYTES),
];

const KEY_VALUE: &[Known] = &[Known(1, BYTES), Known(2, BYTES)];

const SCHEMA_ELEMENT: &[Known] = &[
    Known(1, I32),
    Known(2, I32),
    Known(3, I32),
    Known(4, BYTES),
    Known(5, I32),
    Known(6, I32),
    Known(7, I32),
    Known(8, I32),
    Known(9, I32),
    Known(10, Kind::Structure(LOGICAL_TYPE)),
];

/// Those of its alternatives that have fields.
const LOGICAL_TYPE: &[Known] = &[
    Known(5, Kind::Structure(&[Known(1, I32), Known(2, I32)])),
    Known(7, Kind::Structure(TIME)),
    Known(8, Kind::Structure(TIME)),
    Known(10, Kind::Structure(&[Known(1, I8), Known(2, BOOL)])),
    Known(16, Kind::Structure(&[Known(1, I8)])),
    Known(17, Kind::Structure(&[Known(1, BYTES)])),
    Known(18, Kind::Structure(&[Known(1, BYTES), Known(2, I32)])),
];

const TIME: &[Known] =
    &[Known(1, BOOL), Known(2, Kind::Structure(&[Known(1, OTHER), Known(2, OTHER), Known(3, OTHER)]))];

const ROW_GROUP: &[Known] = &[
    Known(1, Kind::List(&Kind::Structure(COLUMN_CHUNK))),
    Known(2, I64),
    Known(3, I64),
    Known(4, Kind::List(&Kind::Structure(&[Known(1, I32), Known(2, BOOL), Known(3, BOOL)]))),
    Known(5, I64),
    Known(6, I64),
    Known(7, I16),
];

const COLUMN_CHUNK: &[Known] = &[
    Known(1, BYTES),
    Known(2, I64),
    Known(3, Kind::Structure(COLUMN_METADATA)),
    Known(4, I64),
    Known(5, I32),
    Known(6, I64),
    Known(7, I32),
    Known(8, OTHER),
    Known(9, BYTES),
];

const COLUMN_METADATA: &[Known] = &[
    Known(1, I32),
    Known(2, Kind::List(&I32)),
    Known(3, Kind::List(&BYTES)),
    Known(4, I32),
    Known(5, I64),
    Known(6, I64),
    Known(7, I64),
    Known(8, Kind::List(&Kind::Structure(KEY_VALUE))),
    Known(9, I64),
    Known(10, I64),
    Known(11, I64),
    Known(12, Kind::Structure(STATISTICS)),
    Known(13, Kind::List(&Kind::Structure(&[Known(1, I32), Known(2, I32), Known(3, I32)]))),
    Known(14, I64),
    Known(15, I32),
    Known(16, Kind::Structure(&[Known(1, I64), Known(2, Kind::List(&I64)), Known(3, Kind::List(&I64))])),
    Known(17, Kind::Structure(&[Known(1, Kind::Structure(BOUNDING_BOX)), Known(2, Kind::List(&I32))])),
];

const BOUNDING_BOX: &[Known] = &[
    Known(1, F64),
    Known(2, F64),
    Known(3, F64),
    Known(4, F64),
    Known(5, F64),
    Known(6, F64),
    Known(7, F64),
    Known(8, F64),
];
