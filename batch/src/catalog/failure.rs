//! What to do about a failure of the database behind the catalog. Pure.

/// Another process holds the file.
pub(super) const SQLITE_BUSY: u32 = 5;

/// SQLite's primary result code, if the error is one of SQLite's.
pub(super) fn sqlite_code(error: &sqlx::Error) -> Option<u32> {
    // Extended codes carry the primary one in their low byte.
    let error = error.as_database_error()?.try_downcast_ref::<sqlx::sqlite::SqliteError>()?;
    Some(sqlx::error::DatabaseError::code(error)?.parse::<u32>().ok()? & 0xff)
}

/// What a person can do about `error`, where that can be told.
pub(super) fn hint(error: &sqlx::Error) -> Option<&'static str> {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Tls(_) => {
            return Some("is the server up, and is its address right? `tidemark config` shows `catalog.url`");
        }
        sqlx::Error::Configuration(_) => return Some("write `postgres://USER@HOST/DATABASE`"),
        _ => {}
    }
    if let Some(code) = sqlite_code(error) {
        return sqlite_hint(code);
    }
    match error.as_database_error()?.code()?.as_ref() {
        "28P01" | "28000" => Some("the server refuses user or password; see `catalog.url`"),
        "3D000" => Some("create the database first, for example by `createdb`"),
        "42501" => Some("the user needs the right to create and change tables there"),
        "53300" => Some("the server has no connection left; try again"),
        _ => None,
    }
}

fn sqlite_hint(code: u32) -> Option<&'static str> {
    Some(match code {
        3 | 8 => "this user must be able to write the file and its folder",
        SQLITE_BUSY | 6 => "another process holds the file; try again when it is done",
        11 => "the file is damaged; put back a copy, or move it away: `tidemark batch run` registers datasets anew",
        13 => "the disk is full",
        14 => "is it a file, and can this user write it and its folder?",
        26 => "the file is no SQLite database; name the catalog's own by `--catalog-url sqlite:PATH`",
        _ => return None,
    })
}
