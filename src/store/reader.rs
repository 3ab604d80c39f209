//! Reads a state directory beside its writer: `report` and whoever wants to look.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::StoreError;
use super::schema::{self, FILE};

/// Sees what has been committed.
#[derive(Debug)]
pub struct Reader {
    db: Connection,
    path: std::path::PathBuf,
}

impl Reader {
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(StoreError::Missing { dir: dir.to_owned() }),
            // What may not be looked into is not known to be empty.
            Err(error) => return Err(StoreError::Unusable { path, text: error.to_string() }),
        }
        let unusable = |error: rusqlite::Error| StoreError::Unusable {
            path: path.clone(),
            text: error.to_string(),
        };
        let db = connect(&path).map_err(unusable)?;
        let found = schema::version(&db).map_err(unusable)?;
        if found > i64::try_from(schema::STEPS.len()).unwrap_or(i64::MAX) {
            return Err(schema::newer(&path, found));
        }
        if found == 0 {
            return Err(StoreError::Missing { dir: dir.to_owned() });
        }
        Ok(Self { db, path })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.db
    }

    /// The report that was archived last.
    pub fn newest_report(&self) -> Result<Option<Value>, StoreError> {
        let sql = "SELECT json FROM report ORDER BY id DESC LIMIT 1";
        let text: String = match self.db.query_row(sql, [], |row| row.get(0)) {
            Ok(text) => text,
            Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(None),
            Err(error) => return Err(self.unusable(error.to_string())),
        };
        serde_json::from_str(&text).map(Some).map_err(|error| self.unusable(error.to_string()))
    }

    /// The newest changes of verdicts, oldest first: when (RFC 3339), gate, before, after, why.
    pub fn verdict_changes(&self, limit: u32) -> Result<Vec<Value>, StoreError> {
        let read = || -> rusqlite::Result<Vec<Value>> {
            let sql = "SELECT wall, gate, was, became, text FROM verdict ORDER BY id DESC LIMIT ?1";
            let mut statement = self.db.prepare(sql)?;
            let found = statement.query_map([limit], |row| {
                Ok(serde_json::json!({
                    "at": crate::time::Wall(row.get(0)?).rfc3339(),
                    "gate": row.get::<_, String>(1)?,
                    "from": row.get::<_, Option<String>>(2)?,
                    "to": row.get::<_, String>(3)?,
                    "text": row.get::<_, String>(4)?,
                }))
            })?;
            found.collect()
        };
        let mut changes = read().map_err(|error| self.unusable(error.to_string()))?;
        changes.reverse();
        Ok(changes)
    }

    fn unusable(&self, text: String) -> StoreError {
        StoreError::Unusable { path: self.path.clone(), text }
    }
}

/// Reading a log takes its index file beside it. Where that can't be made (a read-only file
/// system without a writer) the database is read as it is, without what only the log holds.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|db| {
        db.busy_timeout(std::time::Duration::from_secs(2))?;
        schema::version(&db)?;
        Ok(db)
    });
    match opened {
        Err(error) if schema::may_pass(&error) => {
            let uri = format!("file:{}?immutable=1", escaped(path));
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
        }
        other => other,
    }
}

/// A path as a URI has it (RFC 3986): all but letters, digits and `/._-` as `%XX`.
fn escaped(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = String::new();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}
