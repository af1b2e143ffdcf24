//! A look at a service of the guest, from inside: what a healthcheck other than a program is.
//!
//! The one thing to know: it is a program like any other to the agent, this one in another role, so
//! the protocol knows nothing of it: it exits with 0 if all is well, and else says why. Services are
//! looked for on the loopback interface. Leaves out TLS.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail, ensure};

use crate::protocol::ByteString;

/// The first argument of this role.
pub const PROBE: &str = "probe";

/// Bytes of an answer that are looked at.
const MAX_ANSWER: u64 = 64 * 1024;

/// Bytes of its first line (RFC 9112 §4): far longer than any server's.
const MAX_STATUS_LINE: usize = 1024;

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Somebody takes connections at a port.
    Tcp(u16),
    /// Somebody takes connections at a socket's path.
    Unix(String),
    /// A port answers a request.
    Http {
        /// The port.
        port: u16,
        /// What is asked for.
        path: String,
        /// The status of the answer; `None` for any of 200 to 399.
        status: Option<u16>,
        /// What the answer contains; empty for anything.
        contains: String,
    },
}

impl Probe {
    /// The execution's arguments. The agent is this program, wherever its file is.
    pub fn argv(&self) -> Vec<ByteString> {
        let words = match self {
            Self::Tcp(port) => vec!["tcp".into(), port.to_string()],
            Self::Unix(path) => vec!["unix".into(), path.clone()],
            Self::Http {
                port,
                path,
                status,
                contains,
            } => {
                let status = status.map(|status| status.to_string()).unwrap_or_default();
                vec![
                    "http".into(),
                    port.to_string(),
                    path.clone(),
                    status,
                    contains.clone(),
                ]
            }
        };
        let role = ["/proc/self/exe", PROBE].map(ByteString::from);
        let words = words.into_iter().map(ByteString::from);
        role.into_iter().chain(words).collect()
    }

    /// Reads [`Self::argv`] behind its second word.
    fn parse(words: &[String]) -> Result<Self> {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        Ok(match words[..] {
            ["tcp", port] => Self::Tcp(port.parse()?),
            ["unix", path] => Self::Unix(path.into()),
            ["http", port, path, status, contains] => Self::Http {
                port: port.parse()?,
                path: path.into(),
                status: match status {
                    "" => None,
                    status => Some(status.parse()?),
                },
                contains: contains.into(),
            },
            _ => bail!("there is no such probe"),
        })
    }

    /// Looks; returns what is worth knowing of a service that does well.
    fn look(&self) -> Result<String> {
        match self {
            Self::Tcp(port) => {
                connect(*port)?;
                Ok(String::new())
            }
            Self::Unix(path) => {
                UnixStream::connect(path).with_context(|| format!("cannot connect to {path}"))?;
                Ok(String::new())
            }
            Self::Http {
                port,
                path,
                status,
                contains,
            } => ask(connect(*port)?, path, *status, contains),
        }
    }
}

/// Carries a probe out, and prints what is worth knowing of a service that does well.
///
/// # Errors
/// It does not do well, or there is no such probe.
pub fn run(words: &[OsString]) -> Result<()> {
    let words: Vec<_> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    println!("{}", Probe::parse(&words)?.look()?);
    Ok(())
}

/// A service may take connections by one protocol only; the first error is the one to report.
fn connect(port: u16) -> Result<TcpStream> {
    let error = match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    TcpStream::connect((Ipv6Addr::LOCALHOST, port))
        .map_err(|_| error)
        .with_context(|| format!("cannot connect to port {port}"))
}

fn ask(
    mut stream: impl Read + Write,
    path: &str,
    status: Option<u16>,
    contains: &str,
) -> Result<String> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: mvm\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .context("cannot send a request")?;
    let mut answer = Answer {
        stream: stream.take(MAX_ANSWER),
        bytes: Vec::new(),
    };
    let line = answer.status_line()?;
    let found = parse_status(&line).with_context(|| format!("it answered {line:?}"))?;
    let is_wanted = match status {
        Some(status) => found == status,
        None => (200..400).contains(&found),
    };
    ensure!(is_wanted, "it answered {line:?}");
    ensure!(
        answer.contains(contains.as_bytes())?,
        "its answer does not contain {contains:?}"
    );
    Ok(line)
}

/// What has come of an answer.
struct Answer<S> {
    stream: io::Take<S>,
    bytes: Vec<u8>,
}

impl<S: Read> Answer<S> {
    /// Reads more; false if there is no more.
    fn grow(&mut self) -> Result<bool> {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(count) => {
                self.bytes.extend_from_slice(&piece[..count]);
                Ok(count > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error).context("cannot read its answer"),
        }
    }

    fn status_line(&mut self) -> Result<String> {
        loop {
            let line = &self.bytes[..self.bytes.len().min(MAX_STATUS_LINE)];
            if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&line[..end]);
                return Ok(line.trim_end().to_owned());
            }
            ensure!(
                line.len() < MAX_STATUS_LINE,
                "its answer begins with no line of HTTP"
            );
            ensure!(self.grow()?, "it closed the connection without an answer");
        }
    }

    fn contains(&mut self, wanted: &[u8]) -> Result<bool> {
        let mut from = 0;
        loop {
            let is_there = wanted.is_empty()
                || self.bytes[from..]
                    .windows(wanted.len())
                    .any(|window| window == wanted);
            if is_there {
                return Ok(true);
            }
            // What was looked at may hold the begin of it.
            from = (self.bytes.len() + 1).saturating_sub(wanted.len());
            if !self.grow()? {
                return Ok(false);
            }
        }
    }
}

/// `HTTP/1.1 200 OK`
fn parse_status(line: &str) -> Option<u16> {
    let mut words = line.split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    let status = words.next()?.parse().ok()?;
    (100..600).contains(&status).then_some(status)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddrV4, TcpListener};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

    use super::*;

    /// Answers one request.
    struct Server {
        answer: &'static [u8],
        /// Bytes that one read returns.
        step: usize,
        request: Vec<u8>,
    }

    impl Read for Server {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.step.min(buffer.len());
            self.answer.read(&mut buffer[..count])
        }
    }

    impl Write for Server {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.request.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answered(answer: &'static [u8], status: Option<u16>, contains: &str) -> String {
        let server = |step| Server {
            answer,
            step,
            request: Vec::new(),
        };
        let asked = |step| match ask(server(step), "/up", status, contains) {
            Ok(line) => line,
            Err(error) => format!("no: {error:#}"),
        };
        assert_eq!(asked(1), asked(usize::MAX));
        asked(1)
    }

    #[test]
    fn an_answer_is_good_by_its_status_and_its_text() {
        let answer = b"HTTP/1.1 301 Moved\r\nA: b\r\n\r\nall is well";
        assert_eq!(answered(answer, None, ""), "HTTP/1.1 301 Moved");
        assert_eq!(answered(answer, Some(301), "is well"), "HTTP/1.1 301 Moved");
        let other = answered(answer, Some(200), "");
        assert_eq!(other, "no: it answered \"HTTP/1.1 301 Moved\"");
        let without = answered(answer, None, "well!");
        assert_eq!(without, "no: its answer does not contain \"well!\"");
        assert!(answered(b"HTTP/1.0 500 Oh\n", None, "").starts_with("no: "));
    }

    #[test]
    fn what_is_no_answer_is_told() {
        assert_eq!(
            answered(b"", None, ""),
            "no: it closed the connection without an answer"
        );
        assert!(answered(b"SSH-2.0-x\r\n", None, "").starts_with("no: it answered"));
        assert_eq!(
            answered(&[b'x'; 5000], None, ""),
            "no: its answer begins with no line of HTTP"
        );
    }

    #[test]
    fn an_answer_without_end_is_looked_at_in_part() {
        struct Endless;
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                buffer.fill(b'\n');
                Ok(buffer.len())
            }
        }
        let mut answer = Answer {
            stream: Endless.take(MAX_ANSWER),
            bytes: Vec::new(),
        };
        assert!(!answer.contains(b"end").unwrap());
        assert_eq!(answer.bytes.len() as u64, MAX_ANSWER);
    }

    #[test]
    fn the_words_of_a_probe_are_read_as_they_were_meant() {
        let http = |status| Probe::Http {
            port: 80,
            path: "/".into(),
            status,
            contains: "a b".into(),
        };
        for probe in [
            Probe::Tcp(65535),
            Probe::Unix("/run/a b".into()),
            http(None),
            http(Some(204)),
        ] {
            let words: Vec<_> = probe.argv().iter().map(ToString::to_string).collect();
            assert_eq!(words[1], PROBE);
            assert_eq!(Probe::parse(&words[2..]).unwrap(), probe);
        }
    }

    /// A port that nobody listens at, as long as its socket is kept.
    fn unheard() -> (OwnedFd, u16) {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        bind(&socket, &any).unwrap();
        let address = SocketAddrV4::try_from(getsockname(&socket).unwrap()).unwrap();
        (socket, address.port())
    }

    #[test]
    fn a_service_is_found_at_its_port_or_socket() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(Probe::Tcp(port).look().is_ok());
        let served = thread::spawn(move || {
            // The first is the probe's above.
            drop(listener.accept());
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 204 No\r\n\r\n").unwrap();
        });
        let probe = Probe::Http {
            port,
            path: "/".into(),
            status: Some(204),
            contains: String::new(),
        };
        assert_eq!(probe.look().unwrap(), "HTTP/1.1 204 No");
        served.join().unwrap();
        let (_taken, port) = unheard();
        let error = Probe::Tcp(port).look().unwrap_err().to_string();
        assert_eq!(error, format!("cannot connect to port {port}"));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket").to_string_lossy().into_owned();
        assert!(Probe::Unix(path.clone()).look().is_err());
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(Probe::Unix(path).look().is_ok());
    }
}
