//! Standard input, output and error are three streams of bytes.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{shell, tool};

#[test]
fn the_three_are_apart_and_take_any_byte() -> Result<()> {
    let every_byte: Vec<u8> = (0..=255).collect();
    let input = every_byte.repeat(1000);
    let output = shell("streams", "cat; printf 'a\\0\\377' >&2; exit 3")
        .input(input.clone())
        .run()?;
    assert_eq!(output.status, 3);
    assert!(
        output.stdout == input,
        "{} bytes came back",
        output.stdout.len()
    );
    assert_eq!(output.stderr, b"a\0\xff");
    Ok(())
}

#[test]
fn a_reader_that_goes_ends_the_writer() -> Result<()> {
    let mut machine = tool("yes", ["yes"]).spawn()?;
    let (_stdin, mut stdout) = machine.take_pipes();
    let mut start = [0; 4];
    stdout.read_exact(&mut start)?;
    drop(stdout);
    let output = machine.finish()?;
    assert_eq!(&start, b"y\ny\n");
    assert_eq!((output.status, output.stderr()), (128 + 13, String::new()));
    Ok(())
}

const CHUNK_BYTES: usize = 1 << 20;

/// A stream in which no part is like another: pseudo-random bytes, numbered by the chunk.
struct Chunks {
    bytes: Vec<u8>,
    next: u64,
}

impl Chunks {
    fn new() -> Self {
        // Marsaglia's xorshift64.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut word = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let bytes = (0..CHUNK_BYTES / 8).flat_map(|_| word()).collect();
        Self { bytes, next: 0 }
    }

    fn next(&mut self) -> &[u8] {
        let number = self.next.to_le_bytes();
        for page in self.bytes.chunks_mut(4096) {
            page[..8].copy_from_slice(&number);
        }
        self.next += 1;
        &self.bytes
    }
}

#[test]
fn a_gibibyte_loses_no_byte() -> Result<()> {
    let chunks = (1 << 30) / CHUNK_BYTES;
    let mut machine = tool("gibibyte", ["cat"])
        .vcpus(2)
        .timeout(Duration::from_secs(1200))
        .spawn()?;
    let (mut stdin, mut stdout) = machine.take_pipes();
    let writer = thread::spawn(move || {
        let mut sent = Chunks::new();
        (0..chunks).try_for_each(|_| stdin.write_all(sent.next()))
    });
    let mut expected = Chunks::new();
    let mut received = vec![0; CHUNK_BYTES];
    for number in 0..chunks {
        stdout
            .read_exact(&mut received)
            .with_context(|| format!("chunk {number}"))?;
        ensure!(received == expected.next(), "chunk {number} is another");
    }
    let rest = stdout.read(&mut received)?;
    writer.join().expect("the writer does not panic")?;
    let output = machine.finish()?;
    assert_eq!(
        (rest, output.status, output.stderr()),
        (0, 0, String::new())
    );
    Ok(())
}
