//! Requests that no kernel sends: each is answered, none does harm.

use std::fs;
use std::os::unix::fs::symlink;

use devices::virtio::fs::wire::{InHeader, opcode};
use proptest::prelude::*;
use rustix::io::Errno;
use tempfile::TempDir;
use zerocopy::IntoBytes;

use crate::client::{Client, changing, closure, header, immutable};

/// A folder `share`, and a secret beside it.
pub fn sample() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("share/directory")).unwrap();
    fs::write(root.join("share/file"), "inside").unwrap();
    fs::write(root.join("secret"), "outside").unwrap();
    symlink("../secret", root.join("share/link")).unwrap();
    folder
}

fn clients(folder: &TempDir) -> [Client; 3] {
    let root = folder.path().join("share");
    let names = ["file", "directory", "link"];
    [immutable(), changing(), closure(&root, &names)].map(|content| {
        let client = Client::mount(&root, content);
        for name in names {
            client.node(name);
        }
        client
    })
}

/// Whether a request has no reply.
pub fn silent(number: u32) -> bool {
    [opcode::FORGET, opcode::BATCH_FORGET, opcode::INTERRUPT].contains(&number)
}

/// INIT and DESTROY would end what the other requests of a case are about.
fn answered(number: u32) -> bool {
    !silent(number) && ![opcode::INIT, opcode::DESTROY].contains(&number)
}

#[test]
fn every_number_with_every_length_is_answered() {
    let folder = sample();
    for client in clients(&folder) {
        for number in (0..4096).filter(|number| answered(*number)) {
            let lengths = if number < opcode::END { 0..96 } else { 0..1 };
            for bytes in lengths {
                for fill in [0, 0xff, b'a'] {
                    let answer = client.call(number, 1, &vec![fill; bytes]);
                    let known = opcode::name(number).is_some();
                    assert!(known || answer == Err(Errno::NOSYS));
                }
            }
        }
        client.node("file");
    }
}

/// Request numbers.
pub fn numbers() -> impl Strategy<Value = u32> {
    prop_oneof![9 => 0..opcode::END, 1 => any::<u32>()]
}

/// Nodes that there may be.
pub fn nodes() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..8u64, 1 => any::<u64>(), 1 => (0..8u64).prop_map(|id| id | 1 << 32)]
}

/// Bodies that are likely to get past the first check: small numbers, and names.
pub fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(
        prop_oneof![
            Just(0u64),
            0..9u64,
            Just(u64::MAX),
            0..1u64 << 20,
            any::<u64>()
        ],
        0..8,
    );
    let names = prop_oneof![
        Just(&b"file\0"[..]),
        Just(&b"link\0"[..]),
        Just(&b"directory\0"[..]),
        Just(&b"../secret\0"[..]),
        Just(&b"..\0"[..]),
        Just(&b"secret\0"[..]),
    ];
    prop_oneof![
        words.prop_map(|words| words.as_bytes().to_vec()),
        names.prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..300),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_answered(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        room in 0..5000usize,
    ) {
        let folder = sample();
        for client in clients(&folder) {
            let number = bytes.get(4..8).map_or(0, |word| {
                u32::from_le_bytes([word[0], word[1], word[2], word[3]])
            });
            let replied = client.send(&bytes, room).is_some();
            prop_assert_eq!(replied, !silent(number));
        }
    }

    #[test]
    fn any_sequence_of_requests_stays_inside(
        requests in prop::collection::vec((numbers(), nodes(), bodies(), 0..70_000usize), 1..60),
    ) {
        let folder = sample();
        for client in clients(&folder) {
            for (number, node, body, room) in &requests {
                let header = header(*number, 1, *node, body.len());
                let request = [header.as_bytes(), body].concat();
                let reply = client.send(&request, *room);
                prop_assert_eq!(reply.is_some(), !silent(*number));
                let reply = reply.map(|(_, body)| body).unwrap_or_default();
                prop_assert!(reply.len() <= *room);
                let found = reply.windows(7).any(|window| window == b"outside");
                prop_assert!(!found);
            }
            // Still in order, for a guest that begins anew.
            client.init(7, 41, 0).unwrap();
            client.node("file");
        }
        let secret = fs::read(folder.path().join("secret")).unwrap();
        prop_assert_eq!(secret, b"outside");
    }

    #[test]
    fn any_length_in_a_header_is_answered(claimed in any::<u32>(), total in 0..400usize) {
        let folder = sample();
        let client = &clients(&folder)[0];
        let mut header = header(opcode::GETATTR, 3, 1, 0);
        header.len = claimed;
        let mut request = header.as_bytes().to_vec();
        request.resize(total.max(size_of::<InHeader>()), 0);
        let (reply, _) = client.send(&request, 4096).unwrap();
        let whole = size_of::<InHeader>() + 16;
        let right = (whole..=request.len()).contains(&(claimed as usize));
        prop_assert_eq!(reply.error, if right { 0 } else { -libc::EINVAL });
    }
}
