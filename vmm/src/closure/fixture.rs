//! A small Nix database for tests.

use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::StorePath;

/// A store path of this name.
pub fn path(name: &str) -> StorePath {
    format!("/nix/store/0000000000000000000000000000000a-{name}")
        .parse()
        .expect("well-formed")
}

/// A state folder whose database holds these references, and each path in them as valid.
pub fn database(references: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("db")).expect("db folder");
    let connection = Connection::open(folder.path().join("db/db.sqlite")).expect("database");
    connection
        .execute_batch(
            "CREATE TABLE ValidPaths (
                 id integer primary key autoincrement not null, path text unique not null,
                 hash text not null, registrationTime integer not null, deriver text, narSize integer);
             CREATE TABLE Refs (
                 referrer integer not null, reference integer not null,
                 primary key (referrer, reference),
                 foreign key (referrer) references ValidPaths(id),
                 foreign key (reference) references ValidPaths(id));",
        )
        .expect("tables");
    let valid = "INSERT OR IGNORE INTO ValidPaths (path, hash, registrationTime) VALUES (?1, 'sha256:0', 1)";
    let refers = "INSERT INTO Refs SELECT a.id, b.id FROM ValidPaths a, ValidPaths b WHERE a.path = ?1 AND b.path = ?2";
    for (from, to) in references {
        let (from, to) = (path(from), path(to));
        connection
            .execute(valid, params![from.as_str()])
            .expect("valid path");
        connection
            .execute(valid, params![to.as_str()])
            .expect("valid path");
        connection
            .execute(refers, params![from.as_str(), to.as_str()])
            .expect("reference");
    }
    folder
}
