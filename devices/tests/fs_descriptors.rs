//! A guest walks over more files than the process may have open.
//!
//! The limit is the whole process's, so this is a program of its own with one test.

#[path = "fs_server/client.rs"]
#[expect(dead_code, reason = "shared with tests that use all of it")]
mod client;

use std::fs;

use client::{Client, changing, immutable};
use devices::virtio::fs::Serve;
use devices::virtio::fs::wire::{ROOT_ID, opcode};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const DIRECTORIES: usize = 400;
const FILES: usize = 10;
const DESCRIPTORS: u64 = 256;

#[test]
fn descriptors_are_no_limit_to_a_walk_and_open_files_are_limited() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..DIRECTORIES {
        let directory = folder.path().join(format!("directory-{n}"));
        fs::create_dir(&directory).unwrap();
        for n in 0..FILES {
            fs::write(directory.join(format!("file-{n}")), "content").unwrap();
        }
    }
    let limit = Rlimit {
        current: Some(DESCRIPTORS),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).unwrap();

    // An immutable share's caches alone could hold twice as many descriptors as there are.
    let store = Client::mount(folder.path(), immutable());
    let mut nodes = Vec::new();
    for directory in below(&store, ROOT_ID) {
        nodes.extend(below(&store, directory));
    }
    assert_eq!(nodes.len(), DIRECTORIES * FILES);
    for node in &nodes {
        assert_eq!(store.read(*node, 0, 100), Ok(b"content".to_vec()));
    }
    store.server.reset();

    // Files of a changing share are held open for the guest, until 128 descriptors are left.
    let share = Client::mount(folder.path(), changing());
    let files: Vec<_> = (0..DIRECTORIES)
        .map(|n| share.node(&format!("directory-{n}/file-0")))
        .collect();
    let opened: Vec<_> = files
        .iter()
        .map(|node| share.open(*node, libc::O_RDONLY).map(|open| open.fh))
        .collect();
    let held = opened.iter().flatten().count();
    assert!((64..=128).contains(&held), "{held}");
    let refused = opened.iter().filter(|open| **open == Err(Errno::MFILE));
    assert_eq!(refused.count(), files.len() - held);
    assert_eq!(
        share.server.counters().handles_refused(),
        (files.len() - held) as u64
    );
    for (node, fh) in files.iter().zip(opened) {
        let _ = fh.map(|fh| share.release(*node, fh).unwrap());
    }
    share.open(files[0], libc::O_RDONLY).unwrap();
}

/// The nodes of what is in a directory.
fn below(client: &Client, node: u64) -> Vec<u64> {
    let listed = client.list(opcode::READDIRPLUS, node, 0, 4096);
    let entries = listed.iter().filter_map(|listed| listed.entry);
    entries
        .map(|entry| entry.nodeid)
        .filter(|node| *node != 0)
        .collect()
}
