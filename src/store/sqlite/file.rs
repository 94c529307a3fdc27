//! The file: who may read it and who has it open, its schema, and the connection that writes.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, config::DbConfig};

use super::{StoreError, migrations, row, unavailable};

/// What the schema of a file lacks; brings it up to date unless that is only to be told.
///
/// # Errors
/// When the file cannot be read or written, or is from a newer version.
pub fn migrate(path: &Path, check_only: bool) -> Result<Vec<String>, StoreError> {
    let is_there = path.exists();
    let pending = if is_there {
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
    let place = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let was_there = path.exists();
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| unavailable(&format!("{}: {error}", place.display())))?;
    if !was_there {
        tracing::info!(path = %place.display(), "a new, empty store was made");
    }
    Ok(())
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
            let advice = "stop that one, or give this one a file of its own";
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
