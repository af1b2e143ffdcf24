//! Keeps a program's output in systemd's journal, with fields to look for it by: an entry for each
//! line, in the journal's own protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>).
//!
//! The one thing to know: a service's streams lead to the journal already, but what comes by them has
//! no fields of ours. `$JOURNAL_STREAM` says which stream does.

use std::env;
use std::fmt::Write;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::fs::fstat;

use super::collector::Keep;
use super::entry::Stream;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The device and inode of the stream that leads to the journal.
const VARIABLE: &str = "JOURNAL_STREAM";

/// The journal, for the lines of one machine.
pub struct Journal {
    socket: UnixDatagram,
    machine: String,
}

impl Journal {
    /// The journal, if both streams of this process lead there. `machine` is the machine's name.
    pub fn of_this_process(machine: &str) -> Option<Self> {
        let stream = env::var(VARIABLE).ok()?;
        let leads_there = |own: &dyn AsFd| {
            fstat(own.as_fd())
                .is_ok_and(|facts| format!("{}:{}", facts.st_dev, facts.st_ino) == stream)
        };
        if !leads_there(&io::stdout()) || !leads_there(&io::stderr()) {
            return None;
        }
        Self::at(Path::new(SOCKET), machine).ok()
    }

    fn at(socket: &Path, machine: &str) -> io::Result<Self> {
        let there = UnixDatagram::unbound()?;
        there.connect(socket)?;
        Ok(Self {
            socket: there,
            machine: machine.into(),
        })
    }
}

impl Keep for Journal {
    fn keep(&mut self, stream: Stream, text: &[u8]) -> io::Result<()> {
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        self.socket
            .send(&entry(&self.machine, stream, line))
            .map(drop)
    }
}

/// An entry of a line, with fields for where it comes from.
fn entry(machine: &str, stream: Stream, line: &[u8]) -> Vec<u8> {
    let (name, usual) = match stream {
        Stream::Stdout => ("stdout", b'6'),
        Stream::Stderr => ("stderr", b'3'),
    };
    // As in what comes by a stream (`SyslogLevelPrefix=`).
    let (priority, line) = match line {
        [b'<', level @ b'0'..=b'7', b'>', line @ ..] => (*level, line),
        _ => (usual, line),
    };
    let mut fields = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(fields, "PRIORITY={}", char::from(priority));
    let _ = writeln!(fields, "SYSLOG_IDENTIFIER=mvm/{machine}");
    let _ = writeln!(fields, "MVM_NAME={machine}\nMVM_STREAM={name}\nMESSAGE");
    let mut entry = fields.into_bytes();
    // By its length, as it may have any byte.
    entry.extend((line.len() as u64).to_le_bytes());
    entry.extend(line);
    entry.push(b'\n');
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_fields_and_a_line_of_any_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let there = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::at(&path, "web").unwrap();
        for (stream, line, priority, name, said) in [
            (Stream::Stdout, &b"up\n"[..], 6, "stdout", &b"up"[..]),
            (Stream::Stderr, b"\xff=\0", 3, "stderr", b"\xff=\0"),
            (Stream::Stderr, b"<4>careful\n", 4, "stderr", b"careful"),
            (Stream::Stdout, b"<8>odd\n", 6, "stdout", b"<8>odd"),
        ] {
            journal.keep(stream, line).unwrap();
            let mut bytes = [0; 256];
            let length = there.recv(&mut bytes).unwrap();
            let fields = format!(
                "PRIORITY={priority}\nSYSLOG_IDENTIFIER=mvm/web\nMVM_NAME=web\nMVM_STREAM={name}\nMESSAGE\n"
            );
            let size = (said.len() as u64).to_le_bytes();
            let expected = [fields.as_bytes(), &size, said, b"\n"].concat();
            assert_eq!(&bytes[..length], expected);
        }
    }

    #[test]
    fn a_process_whose_streams_lead_elsewhere_has_no_journal() {
        assert!(Journal::of_this_process("web").is_none());
    }
}
