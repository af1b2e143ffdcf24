//! What is read is what was written, and what was damaged or made up is one sentence.

use std::io::Write;

use super::*;

/// A bundle of small parts, as bytes.
fn bundle() -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    let parts = Parts {
        kernel: &mut &b"kernel"[..],
        init: &mut &vec![7; 5000][..],
        app: &mut &b"{}"[..],
        store: &mut &vec![9; 4096][..],
        own: None,
    };
    write(&mut file, parts).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn opened(bytes: &[u8]) -> Result<Bundle> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Bundle::read(file)
}

/// The bundle with a header that somebody has made up, and signed.
fn forged(change: impl Fn(&mut Header)) -> Vec<u8> {
    let mut bytes = bundle();
    let mut header = Header::read_from_bytes(&bytes[..HEADER_BYTES]).unwrap();
    change(&mut header);
    header.digest = header.own_digest();
    bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    bytes
}

#[test]
fn what_was_written_is_read() {
    let bytes = bundle();
    assert_eq!(bytes.len(), 4096 * 6);
    let bundle = opened(&bytes).unwrap();
    bundle.verify().unwrap();
    assert_eq!(bundle.app().unwrap(), b"{}");
    assert_eq!(bundle.init().unwrap(), vec![7; 5000]);
    let mut kernel = [0; 6];
    let window = bundle.kernel().unwrap();
    window.read_at(&mut kernel, 0).unwrap();
    assert_eq!((&kernel, window.bytes()), (b"kernel", 6));
    let disk = bundle.disk(2).unwrap().unwrap();
    assert_eq!(disk.window, Some(4096 * 5..4096 * 6));
    assert!(disk.read_only);
}

#[test]
fn it_is_the_same_each_time() {
    assert_eq!(bundle(), bundle());
}

#[test]
fn where_no_store_is_there_is_no_disk() {
    let mut file = tempfile::tempfile().unwrap();
    let parts = Parts {
        kernel: &mut &b"k"[..],
        init: &mut &b"i"[..],
        app: &mut &b"{}"[..],
        store: &mut io::empty(),
        own: None,
    };
    write(&mut file, parts).unwrap();
    let bundle = Bundle::read(file).unwrap();
    assert!(bundle.disk(1).unwrap().is_none());
}

/// What a system has that brings its own kernel.
fn own(bytes: u64) -> Vec<u8> {
    let file = StoreNode::File {
        is_program: false,
        offset: 0,
        bytes,
    };
    let part = SystemPart {
        facts: Facts {
            cmdline: "init=/x".into(),
            tags: Vec::new(),
            modules: Vec::new(),
        },
        nodes: vec![StoreNode::Folder(vec![(b"a".into(), 1)]), file],
    };
    part.encode().unwrap()
}

fn bundle_of_system(system: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    let parts = Parts {
        kernel: &mut &b"k"[..],
        init: &mut &b"i"[..],
        app: &mut &b"{}"[..],
        store: &mut &b"content"[..],
        own: Some(OwnParts {
            system,
            initrd: &mut &b"archive"[..],
        }),
    };
    write(&mut file, parts).unwrap();
    file
}

#[test]
fn a_system_has_its_stage_1_and_the_tree_of_its_store() {
    let whole = Bundle::read(bundle_of_system(&own(7))).unwrap();
    whole.verify().unwrap();
    let (_, range) = whole.initrd().unwrap().into_file();
    assert_eq!(range, 4096 * 6..4096 * 6 + 7);
    let system = whole.system().unwrap();
    assert_eq!(system.facts.cmdline, "init=/x");
    let tree = whole.tree(&system).unwrap();
    assert_eq!(tree.nodes().len(), 2);

    let beyond = Bundle::read(bundle_of_system(&own(8))).unwrap();
    let error = beyond.tree(&beyond.system().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "its system is damaged");
    let garbled = Bundle::read(bundle_of_system(b"x")).unwrap();
    assert!(garbled.system().is_err());

    let none = opened(&bundle()).unwrap();
    let error = none.system().unwrap_err();
    assert_eq!(
        error.to_string(),
        "it has no system with a kernel of its own"
    );
    assert_eq!(none.initrd().unwrap().bytes(), 0);
}

#[test]
fn one_that_is_damaged_is_refused_in_a_sentence() {
    let whole = bundle();
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] ^= byte;
        bytes
    };
    let longer = [&whole[..], b"more"].concat();
    let far = u64::MAX - 4096;
    let table = [
        (Vec::new(), "it is nothing that `mvm build` writes"),
        (
            b"{ \"name\": 1 }".to_vec(),
            "it is nothing that `mvm build` writes",
        ),
        (with(1, 1), "it is nothing that `mvm build` writes"),
        (whole[..8].to_vec(), "it is cut short: it has 8 bytes"),
        (whole[..4095].to_vec(), "it is cut short: it has 4095 bytes"),
        (
            whole[..4096].to_vec(),
            "it is cut short: it has 4096 bytes of 24576",
        ),
        (
            whole[..24575].to_vec(),
            "it is cut short: it has 24575 bytes of 24576",
        ),
        (
            longer,
            "something stands behind its end: it has 24580 bytes instead of 24576",
        ),
        (
            with(8, 3),
            "it has version 2 of the format, and this mvm reads 1",
        ),
        (with(12, 1), "its header is damaged"),
        (with(16, 1), "its header is damaged"),
        (with(2000, 1), "its header is damaged"),
        (with(4095, 1), "its header is damaged"),
        (
            forged(|header| header.count = 3.into()),
            "its header is damaged",
        ),
        (
            forged(|header| header.zeros[0] = 1),
            "its header is damaged",
        ),
        (
            forged(|header| header.parts[SYSTEM].bytes = 1.into()),
            "its header is damaged",
        ),
        (
            forged(|header| header.count = 6.into()),
            "its header is damaged: system is to be at 0 instead of 24576",
        ),
        (
            forged(|header| header.parts[KERNEL].offset = 0.into()),
            "its header is damaged: kernel is to be at 0 instead of 4096",
        ),
        (
            forged(|header| header.parts[STORE].offset = 20481.into()),
            "its header is damaged: store is to be at 20481 instead of 20480",
        ),
        (
            forged(|header| header.parts[STORE].bytes = u64::MAX.into()),
            "its header is damaged: store is to have 18446744073709551615 bytes",
        ),
        (
            forged(|header| header.parts[STORE].bytes = (far - 20480 + 4095).into()),
            "its header is damaged: store is to have 18446744073709531134 bytes",
        ),
        (
            forged(|header| header.parts[STORE].bytes = (far - 20480).into()),
            "it is cut short: it has 24576 bytes of 18446744073709547520",
        ),
        (
            forged(|header| header.parts[INIT].bytes = (INIT_BYTES_MAX + 1).into()),
            "its header is damaged: init is to have 67108865 bytes",
        ),
        (
            forged(|header| header.parts[APP].bytes = (MAX_FILE_SIZE + 1).into()),
            "its header is damaged: app.json is to have 1048577 bytes",
        ),
    ];
    for (bytes, expected) in table {
        assert_eq!(opened(&bytes).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_part_that_is_damaged_is_not_used() {
    let damaged = |at: usize| {
        let mut bytes = bundle();
        bytes[at] ^= 1;
        opened(&bytes).unwrap()
    };
    let verdict = |at| damaged(at).verify().unwrap_err().to_string();
    assert_eq!(verdict(4096), "its kernel is damaged");
    assert_eq!(verdict(8192), "its init is damaged");
    assert_eq!(verdict(16384), "its app.json is damaged");
    assert_eq!(verdict(24575), "its store is damaged");
    let error = damaged(16384).app().unwrap_err();
    assert_eq!(error.to_string(), "its app.json is damaged");
    let error = damaged(8192 + 4999).init().unwrap_err();
    assert_eq!(error.to_string(), "its init is damaged");
}
