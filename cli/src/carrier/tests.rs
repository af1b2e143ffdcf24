//! The carrier with the real agent at its other end, and with guests that break the protocol.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use guest::agent::Agent;
use guest::protocol::{CONNECTION_WINDOW, Decoder, Exit, FrameBuffer, Hello, Stream};

use super::*;

/// For what must happen soon, on the slowest host.
const PATIENCE: Duration = Duration::from_secs(60);

/// A carrier at work.
struct Service {
    /// Ends it.
    stop: UnixStream,
    thread: JoinHandle<(Carrier, Result<bool>)>,
    port: SocketAddr,
}

/// What carries over a connection.
fn carrier(guest: UnixStream) -> Carrier {
    Carrier::new(Connection::open(guest, PATIENCE).unwrap()).unwrap()
}

impl Service {
    /// Carries over `carrier` from a port of its own to `target`.
    fn over(mut carrier: Carrier, target: Connect) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap();
        carrier.open(1, vec![Door::listening(listener.into(), target).unwrap()]);
        Self::start(carrier, port)
    }

    fn start(mut carrier: Carrier, port: SocketAddr) -> Self {
        let (stop, other) = UnixStream::pair().unwrap();
        let thread = thread::spawn(move || {
            let outcome = carrier.carry_until(Some(other.as_fd()));
            (carrier, outcome)
        });
        Self { stop, thread, port }
    }

    /// With the agent at the other end.
    fn to(target: SocketAddr) -> Self {
        Self::over(with_agent(), super::target(target, false))
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.port).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn end(self) -> (Carrier, Result<bool>) {
        drop(self.stop);
        self.thread.join().unwrap()
    }
}

fn with_agent() -> Carrier {
    let (host, there) = UnixStream::pair().unwrap();
    thread::spawn(move || {
        let agent = Agent::greet(there.into(), None, 1).unwrap();
        agent.serve_prepared()
    });
    carrier(host)
}

/// A server, and what it does with each client.
fn server(serve: impl Fn(TcpStream) + Send + Sync + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            thread::spawn(move || serve(client));
        }
    });
    address
}

/// Sends back what it is sent, when that has ended.
fn mirror(mut client: TcpStream) {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    // Whoever asked may have gone.
    let _ = client.write_all(&bytes);
}

/// Bytes that are all different from those beside them.
fn noise(length: usize, seed: usize) -> Vec<u8> {
    let byte = |nth: usize| (nth.wrapping_mul(31) ^ (nth >> 8) ^ seed).to_le_bytes()[0];
    (0..length).map(byte).collect()
}

#[test]
fn many_at_once_get_their_own_answers_after_they_have_said_all() {
    let service = Service::to(server(mirror));
    let mut clients: Vec<_> = (0..100).map(|_| service.connect()).collect();
    for (nth, client) in clients.iter_mut().enumerate() {
        client.write_all(&noise(10_000 + nth, nth)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    }
    for (nth, client) in clients.iter_mut().enumerate().rev() {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(answer == noise(10_000 + nth, nth), "client {nth}");
    }
    let (carrier, outcome) = service.end();
    assert!(outcome.unwrap());
    assert!(carrier.sessions.len() <= 100);
}

#[test]
fn far_more_than_a_window_goes_both_ways() {
    let service = Service::to(server(mirror));
    let bytes = noise(20 * CONNECTION_WINDOW as usize + 1, 7);
    let mut client = service.connect();
    let mut writer = client.try_clone().unwrap();
    let sent = bytes.clone();
    thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(answer == bytes);
}

#[test]
fn one_that_reads_nothing_holds_up_no_other() {
    let endless = server(|mut client| {
        let bytes = noise(1 << 16, 0);
        while client.write_all(&bytes).is_ok() {}
    });
    let mut carrier = with_agent();
    let mirrors = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = mirrors.local_addr().unwrap();
    carrier.open(
        2,
        vec![Door::listening(mirrors.into(), target(server(mirror), false)).unwrap()],
    );
    let service = Service::over(carrier, target(endless, false));
    let _idle: Vec<_> = (0..10).map(|_| service.connect()).collect();
    for _ in 0..100 {
        let mut client = TcpStream::connect(at).unwrap();
        client.write_all(b"through").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "through");
    }
}

#[test]
fn a_server_hears_of_a_client_that_has_gone() {
    let (sender, heard) = std::sync::mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = Service::to(listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            client.write_all(b"hello").unwrap();
            // The end, or a reset: either way there is no more.
            let end = client.read(&mut [0; 100]);
            sender.send(end.map_or(0, |count| count)).unwrap();
        }
    });
    let mut client = service.connect();
    client.read_exact(&mut [0; 5]).unwrap();
    drop(client);
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(0));
    // One that leaves bytes unread resets the connection.
    let client = service.connect();
    client.peek(&mut [0; 1]).unwrap();
    drop(client);
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(0));
}

#[test]
fn where_nobody_listens_a_connection_is_closed() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let service = Service::to(free.unwrap());
    let mut client = service.connect();
    // Its words have no reader, so that may be told as a reset.
    let _ = client.write_all(b"anyone?");
    assert_eq!(client.read(&mut [0; 10]).unwrap_or(0), 0);
}

#[test]
fn where_clients_are_patient_they_wait_for_somebody_to_listen() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let target = target.unwrap();
    let service = Service::over(with_agent(), super::target(target, true));
    let mut clients: Vec<_> = (0..20).map(|_| service.connect()).collect();
    for (nth, client) in clients.iter_mut().enumerate() {
        client.write_all(&noise(10_000, nth)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    }
    // All of them have found nobody.
    thread::sleep(Duration::from_millis(500));
    let listener = TcpListener::bind(target).unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(mirror));
    for (nth, client) in clients.iter_mut().enumerate() {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(answer == noise(10_000, nth), "client {nth}");
    }
    assert!(service.end().1.unwrap());
}

#[test]
fn with_the_doors_their_connections_close() {
    let service = Service::to(server(|mut client| {
        // Waits for the end.
        let _ = client.read(&mut [0; 1]);
    }));
    let port = service.port;
    let mut client = service.connect();
    // Those in front have been taken when this one is answered.
    let (mut carrier, outcome) = {
        let mut other = service.connect();
        other.write_all(b"x").unwrap();
        assert_eq!(other.read(&mut [0; 1]).unwrap_or(0), 0);
        service.end()
    };
    assert!(outcome.unwrap());
    carrier.close(1);
    assert_eq!(client.read(&mut [0; 10]).unwrap_or(0), 0);
    TcpListener::bind(port).unwrap();
    assert!(TcpStream::connect(port).is_err());
}

/// A socket that sends back what it gets, and one that leads there.
fn datagrams(carrier: &mut Carrier) -> SocketAddr {
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = echo.local_addr().unwrap();
    thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while let Ok((length, peer)) = echo.recv_from(&mut bytes) {
            echo.send_to(&bytes[..length], peer).unwrap();
        }
    });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    carrier.open(1, vec![Door::of_datagrams(socket, target).unwrap()]);
    at
}

#[test]
fn datagrams_stay_whole_and_find_back_to_who_sent_them() {
    let mut carrier = with_agent();
    let at = datagrams(&mut carrier);
    let service = Service::start(carrier, at);
    // More than may be known at a time: those silent longest are forgotten.
    for nth in 0..300 {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.connect(at).unwrap();
        for length in [1, 1472, 20_000 + nth] {
            client.send(&noise(length, nth)).unwrap();
            let mut answer = vec![0; 65_536];
            let count = client.recv(&mut answer).unwrap();
            assert!(answer[..count] == noise(length, nth), "{nth}: {length}");
        }
    }
    let (carrier, outcome) = service.end();
    assert!(outcome.unwrap());
    assert!(carrier.sessions.len() < 300);
}

/// A guest that says hello, and `words` once somebody is connected.
fn hostile(words: Vec<(u32, Message<'static>)>) -> String {
    let (host, mut there) = UnixStream::pair().unwrap();
    let target = target("127.0.0.1:1".parse().unwrap(), false);
    let guest = thread::spawn(move || {
        let hello = Hello {
            side: Side::Guest,
            started_us: 0,
            sent_us: 0,
        };
        let mut bytes = Vec::new();
        Message::Hello(hello).encode(MACHINE, &mut bytes).unwrap();
        there.write_all(&bytes).unwrap();
        let mut buffer = FrameBuffer::new();
        let mut decoder = Decoder::new(Side::Host);
        let mut is_connected = false;
        while !is_connected {
            assert!(buffer.fill(&mut there).unwrap() > 0);
            while let Some(frame) = buffer.next_frame().unwrap() {
                let message = decoder.decode(frame).unwrap();
                is_connected |= matches!(message, Some(Message::Connect(_)));
            }
        }
        bytes.clear();
        for (session, message) in words {
            message.encode(session, &mut bytes).unwrap();
        }
        // It may be cut off in the middle.
        let _ = there.write_all(&bytes);
        // Until the host has gone.
        let _ = there.read_to_end(&mut bytes);
    });
    let service = Service::over(carrier(host), target);
    let _client = service.connect();
    let (carrier, outcome) = service.thread.join().unwrap();
    drop(carrier);
    guest.join().unwrap();
    format!("{:#}", outcome.unwrap_err())
}

const CHUNK: &[u8] = &[0; 65_536];

fn data(stream: Stream) -> (u32, Message<'static>) {
    (
        1,
        Message::Data {
            stream,
            bytes: CHUNK,
        },
    )
}

#[test]
fn a_guest_that_breaks_the_protocol_is_given_up() {
    let other = hostile(vec![(9, Message::Eof(Stream::Stdout))]);
    assert_eq!(other, "the guest speaks in session 9, which is over");
    let stderr = hostile(vec![data(Stream::Stderr)]);
    assert_eq!(stderr, "Stderr of a connection");
    let (stream, bytes) = (Stream::Stdin, 1);
    let credit = hostile(vec![(1, Message::Credit { stream, bytes })]);
    assert_eq!(credit, "credit for 1 bytes that were not sent");
    let twice = hostile(vec![
        (1, Message::Exit(Exit::Code(0))),
        (1, Message::Exit(Exit::Code(0))),
    ]);
    assert_eq!(twice, "the guest speaks in session 1, which is over");
}
