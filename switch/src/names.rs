//! The names of a network's machines, and who asks for them (RFC 1035, RFC 2181).
//!
//! The one thing to know: it refuses to speak of any other name, so that a machine's resolver goes
//! on to its next server (`res_send` of glibc takes REFUSED so). Of a machine's name it says all:
//! it has addresses of IPv4, and nothing else.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::message_builder::PushError;
use domain::base::name::Label;
use domain::base::{Message, MessageBuilder, Name, ParsedName, Ttl};
use domain::rdata::{A, Ptr};

/// Bytes of a query: a name has 255, and what else there may be is not looked at.
const QUERY_BYTES_MAX: usize = 512;

/// Bytes of an answer that each client takes by UDP (RFC 1035 §4.2.1); of one name's addresses, as
/// many as it has room for.
const ANSWER_BYTES_MAX: usize = 512;

/// How long an answer may be kept: a machine that was made anew may have another address.
const TTL: Ttl = Ttl::from_secs(5);

/// Behind the bytes of an address whose name is asked for, the last one first.
const REVERSE: &str = ".in-addr.arpa";

/// What the machines are called.
#[derive(Debug, Default)]
pub struct Names {
    addresses: BTreeMap<String, Vec<Ipv4Addr>>,
    machines: BTreeMap<Ipv4Addr, String>,
    /// Which of several addresses was first in the last answer.
    turn: usize,
}

impl Names {
    /// A machine with these names has come.
    pub fn add<'a>(
        &mut self,
        name: &'a str,
        aliases: impl Iterator<Item = &'a String>,
        address: Ipv4Addr,
    ) {
        self.machines.insert(address, name.to_owned());
        for name in aliases.map(String::as_str).chain([name]) {
            let all = self.addresses.entry(name.to_ascii_lowercase()).or_default();
            if !all.contains(&address) {
                all.push(address);
            }
        }
    }

    /// The machine with that address has gone.
    pub fn remove(&mut self, address: Ipv4Addr) {
        self.machines.remove(&address);
        self.addresses.retain(|_, all| {
            all.retain(|one| *one != address);
            !all.is_empty()
        });
    }

    /// The answer to a query; none to what is no query.
    pub fn answer(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        let query = Message::from_octets(query).ok()?;
        if query.header().qr() {
            return None;
        }
        let refusal = |rcode| Some(refusal(&query, rcode));
        if query.header().opcode() != Opcode::QUERY {
            return refusal(Rcode::NOTIMP);
        }
        if query.as_slice().len() > QUERY_BYTES_MAX {
            return refusal(Rcode::FORMERR);
        }
        let Ok(question) = query.sole_question() else {
            return refusal(Rcode::FORMERR);
        };
        self.turn = self.turn.wrapping_add(1);
        let name = spelled(question.qname());
        let known = self.addresses.get(&name);
        let reverse = known.is_none().then(|| self.reverse(&name)).flatten();
        if question.qclass() != Class::IN || known.is_none() && reverse.is_none() {
            return refusal(Rcode::REFUSED);
        }
        let known = known.map(Vec::as_slice).unwrap_or_default();
        let first = self.turn.checked_rem(known.len()).unwrap_or_default();
        let (behind, from) = known.split_at_checked(first)?;
        let addresses = from.iter().chain(behind).copied();
        let is_asked = |rtype| [rtype, Rtype::ANY].contains(&question.qtype());
        written(
            &query,
            addresses.filter(|_| is_asked(Rtype::A)),
            reverse.filter(|_| is_asked(Rtype::PTR)),
        )
        .ok()
    }

    /// The machine's name of which `name` is the address.
    fn reverse(&self, name: &str) -> Option<&str> {
        let backwards = name.strip_suffix(REVERSE)?;
        let parts: Vec<_> = backwards.rsplit('.').collect();
        let address: Ipv4Addr = parts.join(".").parse().ok()?;
        self.machines.get(&address).map(String::as_str)
    }
}

/// A name with dots, in small letters, as which it is known.
fn spelled<Octets: AsRef<[u8]>>(name: &ParsedName<Octets>) -> String {
    let labels = name.iter().filter(|label| !label.is_root());
    let bytes: Vec<&[u8]> = labels.map(Label::as_slice).collect();
    String::from_utf8_lossy(&bytes.join(&b'.')).to_ascii_lowercase()
}

fn refusal(query: &Message<&[u8]>, rcode: Rcode) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.set_push_limit(ANSWER_BYTES_MAX);
    builder.start_error(query, rcode).finish()
}

fn written(
    query: &Message<&[u8]>,
    addresses: impl Iterator<Item = Ipv4Addr>,
    name: Option<&str>,
) -> Result<Vec<u8>, PushError> {
    let question = query.sole_question().map_err(|_| PushError::ShortBuf)?;
    let mut builder = MessageBuilder::new_vec();
    builder.set_push_limit(ANSWER_BYTES_MAX);
    let mut builder = builder.start_answer(query, Rcode::NOERROR)?;
    builder.header_mut().set_aa(true);
    builder.header_mut().set_ra(true);
    let owner = question.qname();
    for address in addresses {
        if builder.push((owner, TTL, A::new(address))).is_err() {
            break;
        }
    }
    if let Some(Ok(name)) = name.map(Name::vec_from_str) {
        builder.push((owner, TTL, Ptr::new(name)))?;
    }
    Ok(builder.finish())
}

#[cfg(test)]
mod tests {
    use domain::rdata::AllRecordData;
    use proptest::prelude::*;

    use super::*;

    const ONE: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
    const TWO: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 4);

    fn names() -> Names {
        let mut names = Names::default();
        names.add("db", ["Store".to_owned(), "db".into()].iter(), ONE);
        names.add(
            "db-2",
            ["store".to_owned(), "db-2.example".into()].iter(),
            TWO,
        );
        names
    }

    fn query(name: &str, rtype: Rtype) -> Vec<u8> {
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(77);
        builder.header_mut().set_rd(true);
        let mut builder = builder.question();
        builder
            .push((Name::vec_from_str(name).unwrap(), rtype))
            .unwrap();
        builder.finish()
    }

    /// The code of the answer, and what is in it.
    fn ask(names: &mut Names, query: &[u8]) -> (Rcode, Vec<String>) {
        let answer = names.answer(query).unwrap();
        assert!(answer.len() <= ANSWER_BYTES_MAX);
        let answer = Message::from_octets(answer).unwrap();
        assert!(answer.header().qr() && answer.header().id() == 77);
        let records = answer.answer().unwrap().limit_to::<AllRecordData<_, _>>();
        let records = records.map(|record| record.unwrap().data().to_string());
        (answer.header().rcode(), records.collect())
    }

    #[test]
    fn members_are_known_by_all_of_their_names() {
        let mut names = names();
        for (name, rtype, expected) in [
            ("db", Rtype::A, "10.1.2.3"),
            ("DB.", Rtype::A, "10.1.2.3"),
            ("db-2", Rtype::A, "10.1.2.4"),
            ("db-2.example", Rtype::ANY, "10.1.2.4"),
            ("3.2.1.10.in-addr.arpa", Rtype::PTR, "db."),
            ("4.2.1.10.IN-ADDR.arpa", Rtype::PTR, "db-2."),
        ] {
            let (rcode, records) = ask(&mut names, &query(name, rtype));
            let records: Vec<_> = records
                .iter()
                .map(|one| one.trim_end_matches('.'))
                .collect();
            assert_eq!(
                (rcode, &*records),
                (Rcode::NOERROR, &[expected.trim_end_matches('.')][..])
            );
        }
    }

    #[test]
    fn of_a_members_name_there_is_nothing_else() {
        let mut names = names();
        for rtype in [
            Rtype::AAAA,
            Rtype::MX,
            Rtype::TXT,
            Rtype::HTTPS,
            Rtype::from_int(65_000),
        ] {
            let answer = ask(&mut names, &query("db", rtype));
            assert_eq!(answer, (Rcode::NOERROR, Vec::new()));
        }
    }

    #[test]
    fn other_names_are_others_to_answer() {
        let mut names = names();
        for name in [
            "example.org",
            "d",
            "db.example",
            ".",
            "5.2.1.10.in-addr.arpa",
            "3.2.1.10.0.in-addr.arpa",
            "+3.2.1.10.in-addr.arpa",
            "2.1.10.in-addr.arpa",
            "in-addr.arpa",
        ] {
            let answer = ask(&mut names, &query(name, Rtype::PTR));
            assert_eq!(answer, (Rcode::REFUSED, Vec::new()), "{name}");
        }
        names.remove(ONE);
        assert_eq!(ask(&mut names, &query("db", Rtype::A)).0, Rcode::REFUSED);
        assert_eq!(ask(&mut names, &query("store", Rtype::A)).1, ["10.1.2.4"]);
    }

    #[test]
    fn machines_of_one_name_take_turns() {
        let mut names = names();
        let query = query("store", Rtype::A);
        let [first, second] = [(); 2].map(|()| ask(&mut names, &query).1);
        assert_eq!(first, second.iter().rev().cloned().collect::<Vec<_>>());
        for last in 5..200 {
            names.add(
                "x",
                ["store".to_owned()].iter(),
                Ipv4Addr::new(10, 1, 2, last),
            );
        }
        // As many as there is room for, each of them at some time.
        let (mut all, mut least) = (std::collections::BTreeSet::new(), usize::MAX);
        for _ in 0..200 {
            let records = ask(&mut names, &query).1;
            least = least.min(records.len());
            all.extend(records);
        }
        assert!(all.len() == 197 && least > 20, "{} {least}", all.len());
    }

    #[test]
    fn what_is_no_query_of_one_name_is_not_taken_for_one() {
        let mut names = names();
        let good = query("db", Rtype::A);
        let with = |place: usize, bytes: &[u8]| {
            let mut query = good.clone();
            query[place..place + bytes.len()].copy_from_slice(bytes);
            query
        };
        for (query, expected) in [
            (with(2, &[0x28]), Rcode::NOTIMP),
            (with(4, &[0, 0]), Rcode::FORMERR),
            (with(4, &[0, 2]), Rcode::FORMERR),
            (with(4, &[0xff, 0xff]), Rcode::FORMERR),
            // Another class: CHAOS.
            (with(good.len() - 1, &[3]), Rcode::REFUSED),
            // A name that points at itself, forwards, and at the header.
            (with(12, &[0xc0, 12]), Rcode::FORMERR),
            (with(12, &[0xc0, 200]), Rcode::FORMERR),
            // A label that is longer than the message, and of a kind that there is not.
            (with(12, &[63]), Rcode::FORMERR),
            (with(12, &[0x80]), Rcode::FORMERR),
            (good[..good.len() - 1].to_vec(), Rcode::FORMERR),
            (good[..12].to_vec(), Rcode::FORMERR),
            ([&good[..], &[0; 600]].concat(), Rcode::FORMERR),
        ] {
            assert_eq!(ask(&mut names, &query).0, expected, "{query:02x?}");
        }
        // An answer, and what has not even a header.
        assert_eq!(names.answer(&with(2, &[0x80])), None);
        assert_eq!(names.answer(&good[..11]), None);
        assert_eq!(names.answer(&[]), None);
        // What else a query announces is not looked at.
        let counts = [0xff; 6];
        assert_eq!(ask(&mut names, &with(6, &counts)).1, ["10.1.2.3"]);
    }

    proptest! {
        #[test]
        fn no_query_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let answer = names().answer(&bytes);
            prop_assert!(answer.unwrap_or_default().len() <= ANSWER_BYTES_MAX);
        }

        #[test]
        fn nor_one_that_was_good_but_for_some_bytes(
            changes in prop::collection::vec((0..20usize, any::<u8>()), 1..6)
        ) {
            let mut bytes = query("db", Rtype::A);
            for (place, byte) in changes {
                bytes[place] = byte;
            }
            let answer = names().answer(&bytes);
            prop_assert!(answer.unwrap_or_default().len() <= ANSWER_BYTES_MAX);
        }
    }
}
