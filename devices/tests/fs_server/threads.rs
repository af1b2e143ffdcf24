//! One server, many workers.

use devices::virtio::fs::Serve;
use std::fs;
use std::thread;

use devices::virtio::fs::wire::{ROOT_ID, opcode};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::client::{Client, changing, immutable};

const THREADS: usize = 4;
const FILES: usize = 64;

fn sample() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..FILES {
        let directory = folder.path().join(format!("directory-{}", n % 8));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("file-{n}")), format!("content {n}")).unwrap();
    }
    folder
}

#[test]
fn workers_agree_on_nodes_and_content() {
    let folder = sample();
    for content in [immutable(), changing()] {
        let client = Client::mount(folder.path(), content);
        let look = |thread: usize| {
            let visit = |round: usize| {
                let n = (round * 7 + thread * 13) % FILES;
                let node = client.node(&format!("directory-{}/file-{n}", n % 8));
                let fh = client.open(node, libc::O_RDONLY).map_or(0, |open| open.fh);
                let content = client.read_all(node, fh);
                assert_eq!(content, format!("content {n}").into_bytes());
                (n, node)
            };
            let mut seen: Vec<_> = (0..FILES * 4).map(visit).collect();
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        let seen: Vec<_> = thread::scope(|scope| {
            let look = &look;
            let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || look(n))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(seen[0].len(), FILES);
        assert!(seen.iter().all(|each| *each == seen[0]));
    }
}

#[test]
fn one_directory_is_listed_by_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..500 {
        fs::write(folder.path().join(format!("file-{n}")), "").unwrap();
    }
    let client = Client::mount(folder.path(), immutable());
    let whole = client.list(opcode::READDIR, ROOT_ID, 0, 1 << 20);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for size in [300, 1000, 4096] {
                    assert_eq!(client.list(opcode::READDIR, ROOT_ID, 0, size), whole);
                }
            });
        }
    });
}

#[test]
fn a_session_may_end_while_others_are_at_work() {
    let folder = sample();
    let client = Client::mount(folder.path(), immutable());
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let client = &client;
            scope.spawn(move || {
                for n in 0..500 {
                    let name = format!("directory-{}", (n + thread) % 8);
                    let entry = client.lookup(ROOT_ID, name.as_bytes());
                    let node = entry.map_or(0, |entry| entry.nodeid);
                    let below = client.readdir(opcode::READDIRPLUS, node, 0, 0, 4096);
                    assert!([None, Some(Errno::STALE), Some(Errno::IO)].contains(&below.err()));
                    client.forget(node, 1);
                }
            });
        }
        for _ in 0..50 {
            client.server.reset();
            client.init(7, 41, !0).unwrap();
        }
    });
    client.node("directory-3/file-3");
}
