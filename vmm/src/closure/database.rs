//! The Nix database: which store paths are valid, and what each refers to.
//!
//! `SQLite`, tables `ValidPaths(id, path, ...)` and `Refs(referrer, reference)`; a path's reference
//! to itself is in it. Only ever opened for reading. Nix writes it in WAL mode, where a reader
//! needs the `-shm` file; without write access to its folder and without that file `SQLite` refuses,
//! and the database is then opened as one that nobody writes.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use rusqlite::{Connection, OpenFlags};

use super::{MAX_PATHS, StorePath};

/// How long to wait for a writer, where the database is not in WAL mode.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

const UNKNOWN_ROOTS: &str =
    "SELECT value FROM json_each(?1) WHERE value NOT IN (SELECT path FROM ValidPaths)";

const REQUISITES: &str = "
    WITH RECURSIVE closure(id) AS (
        SELECT id FROM ValidPaths WHERE path IN (SELECT value FROM json_each(?1))
        UNION
        SELECT reference FROM Refs JOIN closure ON referrer = closure.id
    )
    SELECT path FROM ValidPaths JOIN closure USING (id) LIMIT ?2";

const KNOWN: &str = "
    SELECT path, hash, coalesce(narSize, 0), coalesce(deriver, ''),
        (SELECT count(*) FROM Refs WHERE referrer = one.id),
        coalesce((SELECT group_concat(other.path, char(10)) FROM Refs
            JOIN ValidPaths AS other ON other.id = reference WHERE referrer = one.id), '')
    FROM ValidPaths AS one WHERE path IN (SELECT value FROM json_each(?1)) ORDER BY path";

/// What the database says.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The roots and all they refer to.
    Requisites(Vec<StorePath>),
    /// These roots are not valid.
    Unknown(Vec<StorePath>),
}

/// Asks the database for all that `roots` refer to.
pub fn requisites(database: &Path, roots: &BTreeSet<StorePath>) -> anyhow::Result<Answer> {
    ask(database, "mode=ro", roots)
        .or_else(|_| ask(database, "immutable=1", roots))
        .with_context(|| format!("cannot ask the Nix database {}", database.display()))
}

/// All that the database has of `paths`, as `nix-store --load-db` reads it: for each a line with the
/// path, the hash, the size, what it was derived by, the number of its references, and they.
pub fn registration(database: &Path, paths: &[StorePath]) -> anyhow::Result<String> {
    register(database, "mode=ro", paths)
        .or_else(|_| register(database, "immutable=1", paths))
        .with_context(|| format!("cannot ask the Nix database {}", database.display()))
}

fn register(database: &Path, option: &str, paths: &[StorePath]) -> anyhow::Result<String> {
    let connection = open(database, option)?;
    let names: Vec<&str> = paths.iter().map(StorePath::as_str).collect();
    let mut statement = connection.prepare(KNOWN)?;
    let mut rows = statement.query([serde_json::to_string(&names)?])?;
    let (mut text, mut count) = (String::new(), 0);
    while let Some(row) = rows.next()? {
        let hash: String = row.get(1)?;
        let hash = hash.strip_prefix("sha256:").unwrap_or(&hash);
        let (path, deriver): (String, String) = (row.get(0)?, row.get(3)?);
        let (size, references): (i64, i64) = (row.get(2)?, row.get(4)?);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{path}\n{hash}\n{size}\n{deriver}\n{references}");
        let references: String = row.get(5)?;
        for line in references.lines() {
            let _ = writeln!(text, "{line}");
        }
        count += 1;
    }
    if count < paths.len() {
        let unknown = paths.len() - count;
        bail!("it does not know {unknown} of {} store paths", paths.len());
    }
    Ok(text)
}

fn open(database: &Path, option: &str) -> anyhow::Result<Connection> {
    let uri = format!("file:{}?{option}", percent_encoded(database));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn ask(database: &Path, option: &str, roots: &BTreeSet<StorePath>) -> anyhow::Result<Answer> {
    let connection = open(database, option)?;
    let roots: Vec<&str> = roots.iter().map(StorePath::as_str).collect();
    let roots = serde_json::to_string(&roots)?;
    let unknown = store_paths(&connection, UNKNOWN_ROOTS, &[&roots])?;
    if !unknown.is_empty() {
        return Ok(Answer::Unknown(unknown));
    }
    let limit = i64::try_from(MAX_PATHS + 1)?;
    let paths = store_paths(&connection, REQUISITES, &[&roots, &limit])?;
    if paths.len() > MAX_PATHS {
        bail!("the closure has more than {MAX_PATHS} store paths");
    }
    Ok(Answer::Requisites(paths))
}

fn store_paths(
    connection: &Connection,
    query: &str,
    parameters: &[&dyn rusqlite::ToSql],
) -> anyhow::Result<Vec<StorePath>> {
    let mut statement = connection.prepare(query)?;
    let rows = statement.query_map(parameters, |row| row.get::<_, String>(0))?;
    rows.map(|row| {
        let row = row?;
        row.parse()
            .map_err(|()| anyhow::anyhow!("{row:?} in it is not a path of /nix/store"))
    })
    .collect()
}

/// A path in a URI; any byte of a path may stand in it as `%XX`.
fn percent_encoded(path: &Path) -> String {
    path.as_os_str()
        .as_bytes()
        .iter()
        .fold(String::new(), |mut uri, byte| {
            match byte {
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'/' | b'.' | b'_' | b'-' => {
                    uri.push(char::from(*byte));
                }
                // Writing to a String cannot fail.
                _ => drop(write!(uri, "%{byte:02X}")),
            }
            uri
        })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, path};
    use super::*;

    #[test]
    fn a_closure_has_each_path_once_whatever_the_shape_of_the_references() {
        // a -> b -> d, a -> c -> d, d -> d; e stands alone.
        let folder = fixture::database(&[
            ("a", "b"),
            ("b", "d"),
            ("a", "c"),
            ("c", "d"),
            ("d", "d"),
            ("e", "e"),
        ]);
        let roots = BTreeSet::from([path("a")]);
        let Answer::Requisites(mut paths) =
            requisites(&folder.path().join("db/db.sqlite"), &roots).expect("answer")
        else {
            panic!("a is valid");
        };
        paths.sort();
        assert_eq!(paths, [path("a"), path("b"), path("c"), path("d")]);
    }

    #[test]
    fn a_path_without_references_is_its_own_closure() {
        let folder = fixture::database(&[("e", "e")]);
        let roots = BTreeSet::from([path("e")]);
        let answer = requisites(&folder.path().join("db/db.sqlite"), &roots).expect("answer");
        assert_eq!(answer, Answer::Requisites(vec![path("e")]));
    }

    #[test]
    fn roots_that_are_not_valid_are_named() {
        let folder = fixture::database(&[("a", "b")]);
        let roots = BTreeSet::from([path("a"), path("y"), path("z")]);
        let answer = requisites(&folder.path().join("db/db.sqlite"), &roots).expect("answer");
        assert_eq!(answer, Answer::Unknown(vec![path("y"), path("z")]));
    }

    #[test]
    fn what_is_known_of_paths_is_told_with_their_references() {
        let folder = fixture::database(&[("a", "b"), ("a", "c"), ("b", "b"), ("d", "d")]);
        let database = folder.path().join("db/db.sqlite");
        let told = registration(&database, &[path("a"), path("b"), path("c")]).expect("known");
        let [a, b, c] = ["a", "b", "c"].map(|name| path(name).as_str().to_owned());
        let expected = format!("{a}\n0\n0\n\n2\n{b}\n{c}\n{b}\n0\n0\n\n1\n{b}\n{c}\n0\n0\n\n0\n");
        assert_eq!(told, expected);
        let error = registration(&database, &[path("a"), path("z")]).expect_err("z is not valid");
        let error = error.root_cause().to_string();
        assert_eq!(error, "it does not know 1 of 2 store paths");
    }

    #[test]
    fn a_folder_name_with_any_character_can_hold_the_database() {
        let outer = tempfile::tempdir().expect("folder");
        let database = outer.path().join("a?b#c%20 d\n.sqlite");
        let source = fixture::database(&[("a", "b")]);
        std::fs::copy(source.path().join("db/db.sqlite"), &database).expect("copy");
        let answer = requisites(&database, &BTreeSet::from([path("b")])).expect("answer");
        assert_eq!(answer, Answer::Requisites(vec![path("b")]));
    }

    #[test]
    fn what_is_no_database_is_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("db.sqlite");
        std::fs::write(
            &file,
            "no database, but text that is longer than SQLite's header of 100 bytes ".repeat(9),
        )
        .expect("write");
        let error = requisites(&file, &BTreeSet::from([path("a")])).expect_err("no database");
        assert!(
            format!("{error:#}").contains("file is not a database"),
            "{error:#}"
        );
    }
}
