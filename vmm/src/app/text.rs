//! The bytes of a file, from wherever the user points, as text: bounded in size and in patience.
//!
//! Only regular files are read by name. A FIFO could make mvm wait for ever and a device never
//! end; who wants to pipe a file in says `-`.

use std::fs::{File, FileType};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Bytes of a file; a thousand times what a person writes.
pub const MAX_FILE_SIZE: u64 = 1 << 20;

/// Reads a regular file of at most `limit` bytes.
pub fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| format!("cannot open: {error}");
    // Non-blocking, since opening a FIFO waits for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| cannot(error.into()))?;
    let file = File::from(fd);
    let kind = file.metadata().map_err(cannot)?.file_type();
    if !kind.is_file() {
        return Err(format!("must be a file, is {}", describe(kind)));
    }
    read_bounded(file, limit)
}

/// Reads the standard input to its end.
pub fn read_stdin() -> Result<Vec<u8>, String> {
    read_bounded(io::stdin().lock(), MAX_FILE_SIZE)
}

fn read_bounded(input: impl Read, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells "as large as" from "larger".
    let mut input = input.take(limit + 1);
    input
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read: {error}"))?;
    if bytes.len() as u64 > limit {
        return Err(format!("must be at most {} MiB, is larger", limit >> 20));
    }
    Ok(bytes)
}

fn describe(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder; name the file in it"
    } else if kind.is_fifo() {
        "a pipe; give it as standard input, with \"-\" as the file"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// The bytes as UTF-8 without a byte order mark; else the offset of the first byte that is not,
/// and why.
pub fn decode(bytes: &[u8]) -> Result<&str, (usize, String)> {
    match bytes {
        [0xef, 0xbb, 0xbf, ..] => {
            return Err((
                0,
                "must be UTF-8 without a byte order mark, starts with one".into(),
            ));
        }
        // A JSON text starts with an ASCII character: a zero beside it is one half of UTF-16.
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => {
            return Err((0, "must be UTF-8, is UTF-16 or binary".into()));
        }
        _ => {}
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        (
            at,
            format!("must be UTF-8, has the byte 0x{:02x}", bytes[at]),
        )
    })
}
