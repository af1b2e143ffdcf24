//! Devices with a backend, as tests have them that ask nothing particular of it.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::virtio::{blk, net};

/// A disk in `file`, for a machine with two processors.
pub fn disk(file: File) -> blk::Config {
    blk::Config {
        name: "test".into(),
        file,
        window: None,
        serial: "test".into(),
        read_only: false,
        vcpus: 2,
        counters: Arc::default(),
        rate: None,
    }
}

/// A network card over `stream`.
pub fn network_card(stream: UnixStream) -> net::Config {
    net::Config {
        name: "net".into(),
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        backend: Box::new(net::Stream::new(stream).unwrap()),
        counters: Arc::default(),
        rate: None,
    }
}
