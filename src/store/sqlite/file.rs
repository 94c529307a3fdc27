//! The file: who may read it and who has it open, its schema, and the connection that writes.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig, ffi::ErrorCode};

use super::{StoreError, migrations, row, unavailable};

/// What the schema of a file lacks; brings it up to date unless that is only to be told.
///
/// # Errors
/// When the file cannot be read or written, is another program's, or is from a newer version; when it is only to be told and
/// there is none.
pub fn migrate(path: &Path, check_only: bool) -> Result<Vec<String>, StoreError> {
    if check_only {
        has_file(path)?;
    }
    refuse_foreign(path)?;
    let pending = if path.exists() {
        migrations::pending(&Connection::open(path).map_err(of_file(path))?)?
    } else {
        migrations::pending(&Connection::open_in_memory().map_err(row::store_error)?)?
    };
    if !check_only && pending > 0 {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|error| unavailable(&format!("{}: {error}", folder.display())))?;
        }
        create_private(path)?;
        let _lock = lock(path)?;
        migrations::run(&mut connect(path).map_err(of_file(path))?)?;
    }
    let first = migrations::count() - pending + 1;
    Ok((first..=migrations::count()).map(|number| format!("migration {number}")).collect())
}

/// Tells that there is no store yet, to a command that would be of no use with a new one.
///
/// # Errors
/// When there is no file, or an empty one.
pub fn has_file(path: &Path) -> Result<(), StoreError> {
    match fs::metadata(path) {
        Ok(found) if found.len() == 0 => Err(unavailable(&format!("{} is an empty file", place(path).display()))),
        Ok(_) => Ok(()),
        Err(error) => Err(unavailable(&format!("{}: {error}", place(path).display()))),
    }
}

/// Where a file is, whatever the working directory.
pub(super) fn place(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Refuses a file that is no store of this server. Comes before anything is written to it or beside it: the setting may be a
/// mistake. An empty file is as good as none.
pub(super) fn refuse_foreign(path: &Path) -> Result<(), StoreError> {
    // What is no file at all is told by whoever opens it.
    if !fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0) {
        return Ok(());
    }
    let advice = "give the server a file of its own";
    let problem = match look(path) {
        Ok(Content::Ours | Content::Nothing) => return Ok(()),
        Ok(Content::Unnumbered) => {
            "it has the tables of this server without the number of their schema, as after a dump: go back to a copy that \
             was made with .backup"
                .to_owned()
        }
        Ok(Content::Foreign) => format!("it is the database of another program: {advice}"),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            format!("it is no SQLite database: {advice}")
        }
        Err(error) => return Err(of_file(path)(error)),
    };
    Err(unavailable(&format!("{}: {problem}", place(path).display())))
}

/// What a database has in it.
enum Content {
    /// A store of this server.
    Ours,
    /// One whose schema has lost its number.
    Unnumbered,
    /// Something else.
    Foreign,
    /// No table.
    Nothing,
}

fn look(path: &Path) -> rusqlite::Result<Content> {
    let connection = Connection::open_with_flags(path, OpenFlags::default().difference(OpenFlags::SQLITE_OPEN_CREATE))?;
    connection.busy_timeout(Duration::from_secs(5))?;
    // Nothing of a log that is there goes into the file of somebody else. One that this makes is taken away at the end.
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, Path::new(&log).exists())?;
    let sql = "SELECT user_version > 0, EXISTS (SELECT 1 FROM sqlite_schema),
        EXISTS (SELECT 1 FROM pragma_table_info('meta') WHERE name = 'store_id') FROM pragma_user_version";
    let found = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(match found {
        (true, true, true) => Content::Ours,
        (false, true, true) => Content::Unnumbered,
        (false, false, _) => Content::Nothing,
        _ => Content::Foreign,
    })
}

/// Brings the schema up to date for a command that may run beside a server: only while no server has the file open.
pub(super) fn update_schema(path: &Path, connection: &mut Connection) -> Result<(), StoreError> {
    if migrations::pending(connection)? == 0 {
        // Refuses a file from a newer version.
        return migrations::run(connection);
    }
    let _lock = lock(path).map_err(|error| {
        unavailable(&format!("its schema has to be brought up to date, and that needs the file for itself: {error}"))
    })?;
    migrations::run(connection)
}

/// Creates the file if it is missing, readable by its owner only: password hashes and messages are in it. SQLite gives
/// the files beside it the same mode.
pub(super) fn create_private(path: &Path) -> Result<(), StoreError> {
    // One that is there is not opened: to close it again would take away SQLite's locks on it, which are the process's.
    if path.exists() {
        return Ok(());
    }
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    made.map(drop).map_err(|error| unavailable(&format!("{}: {error}", place(path).display())))
}

/// What is wrong with a file that is being opened. Names it: it may be another one than was meant.
pub(super) fn of_file(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| match row::store_error(error) {
        StoreError::Unavailable(reason) => unavailable(&format!("{}: {reason}", path.display())),
        other => other,
    }
}

/// Takes the lock beside the file; the kernel gives it back however the process ends. In it is who has it.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let problem = |error: std::io::Error| unavailable(&format!("{}: {error}", path.display()));
    let mut lock =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&name).map_err(problem)?;
    match lock.try_lock() {
        Ok(()) => {
            // For people; on a full disk it is left out. In a container it would say nothing.
            let process = Some(std::process::id()).filter(|process| *process != 1);
            let process = process.map(|process| process.to_string()).unwrap_or_default();
            let _ = lock.set_len(0).and_then(|()| lock.write_all(process.as_bytes()));
            Ok(lock)
        }
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&name).unwrap_or_default();
            let process = if holder.is_empty() { String::new() } else { format!(", process {holder}") };
            let advice = "stop that one. Several servers of one club need MongoDB (docs/fleet.md); a file of its own would be a club of its own";
            Err(unavailable(&format!("{} is in use by another server{process}: {advice}", path.display())))
        }
        Err(TryLockError::Error(error)) => Err(problem(error)),
    }
}

/// Opens the connection that writes.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         -- Full: the log is synced at every commit, so what was acknowledged survives a loss of power.
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         -- What is removed or replaced is overwritten with zeros. Messages are only ever appended, and pay nothing for it.
         PRAGMA secure_delete = ON;
         PRAGMA temp_store = MEMORY;
         -- 64 MiB.
         PRAGMA cache_size = -65536;
         -- See `checkpoint`.
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 134217728;",
    )?;
    prepare_once(&connection)?;
    Ok(connection)
}

/// Statements are prepared once for each connection. Left to itself SQLite prepares those with a parameter that a plan could
/// depend on, `LIMIT ?` above all, anew whenever it is bound, which costs more than most reads.
pub(super) fn prepare_once(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}
