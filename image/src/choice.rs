//! Which of several images: by a name that it has there, or by its place.

use std::str::FromStr;

use anyhow::{Result, bail};

/// Images that an error lists.
const LISTED_MAX: usize = 16;

/// What Docker and podman leave out of names that they show.
const USUAL: [&str; 3] = ["docker.io/library/", "docker.io/", "localhost/"];

/// Which of several images, as podman and skopeo have it behind a path: `:shop/web:1` or `@0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// What it is called.
    Name(String),
    /// How many are before it.
    Place(usize),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix(':').filter(|name| !name.is_empty());
        let place = text.strip_prefix('@').and_then(|place| place.parse().ok());
        match (name, place) {
            (Some(name), _) => Ok(Self::Name(name.into())),
            (None, Some(place)) => Ok(Self::Place(place)),
            (None, None) => Err(format!(
                "behind an image's path is \":\" and a name, or \"@\" and a number from 0, not {text:?}"
            )),
        }
    }
}

/// An image that is there.
pub struct Candidate<'a, T> {
    /// How many are before it.
    pub place: usize,
    /// What it is called; the longest first.
    pub names: Vec<&'a str>,
    /// What it is: two that are the same are one image.
    pub what: T,
}

/// The one of `there` that is chosen, or the only one.
///
/// # Errors
/// There is no such image, or more than one; lists those that there are.
pub fn choose<'a, 'b, T: PartialEq>(
    there: &'b [Candidate<'a, T>],
    choice: Option<&Choice>,
) -> Result<&'b Candidate<'a, T>> {
    let found = match choice {
        None => there.iter().collect(),
        Some(Choice::Place(place)) => there.iter().filter(|one| one.place == *place).collect(),
        Some(Choice::Name(name)) => called(there, name),
    };
    let Some(first) = found.first() else {
        let asked = match choice {
            Some(Choice::Name(name)) => format!(" {name:?}"),
            Some(Choice::Place(place)) => format!(" @{place}"),
            None => String::new(),
        };
        bail!("it holds no image{asked}{}", listed(there));
    };
    if found.iter().all(|one| one.what == first.what) {
        return Ok(first);
    }
    bail!(
        "it holds {} images{}; choose one by :NAME or @NUMBER behind the path",
        found.len(),
        listed(found)
    )
}

/// Those that have this name as it is, or else as Docker and podman would understand it.
fn called<'a, 'b, T>(there: &'b [Candidate<'a, T>], name: &str) -> Vec<&'b Candidate<'a, T>> {
    let those = |is_it: &dyn Fn(&str) -> bool| -> Vec<_> {
        let has_it = |one: &&Candidate<'a, T>| one.names.iter().any(|name| is_it(name));
        there.iter().filter(has_it).collect()
    };
    let exactly = those(&|is| is == name);
    if exactly.is_empty() {
        those(&|is| short(is) == short(name))
    } else {
        exactly
    }
}

/// A name without what is usual, and with its tag.
fn short(name: &str) -> String {
    let own = USUAL.iter().find_map(|usual| name.strip_prefix(usual));
    let own = own.unwrap_or(name);
    let last = own.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) {
        own.into()
    } else {
        format!("{own}:latest")
    }
}

fn listed<'a, 'b, T: 'b>(those: impl IntoIterator<Item = &'b Candidate<'a, T>>) -> String
where
    'a: 'b,
{
    let words: Vec<_> = those
        .into_iter()
        .map(|one| match one.names.first() {
            Some(name) => format!("@{} {name:?}", one.place),
            None => format!("@{}", one.place),
        })
        .collect();
    let shown = words.len().min(LISTED_MAX);
    let more = match words.len() - shown {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match shown {
        0 => String::new(),
        _ => format!(" ({}{more})", words[..shown].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there() -> Vec<Candidate<'static, u32>> {
        let candidate = |(place, (names, what)): (usize, (&[&'static str], u32))| Candidate {
            place,
            names: names.to_vec(),
            what,
        };
        let images: [(&[&str], u32); 5] = [
            (&["docker.io/library/web:latest", "latest"], 1),
            (&["shop/web:1"], 2),
            (&["localhost/db:2", "2"], 3),
            (&["registry.example:5000/db"], 4),
            (&["again:1"], 2),
        ];
        images.into_iter().enumerate().map(candidate).collect()
    }

    fn chosen(text: &str) -> Result<u32, String> {
        let choice: Choice = text.parse()?;
        let there = there();
        let found = choose(&there, Some(&choice)).map_err(|error| error.to_string());
        found.map(|one| one.what)
    }

    #[test]
    fn a_name_is_understood_as_elsewhere() {
        for (text, what) in [
            (":web", 1),
            (":web:latest", 1),
            (":docker.io/web", 1),
            (":latest", 1),
            (":shop/web:1", 2),
            (":docker.io/shop/web:1", 2),
            (":db:2", 3),
            (":2", 3),
            (":registry.example:5000/db:latest", 4),
            ("@3", 4),
        ] {
            assert_eq!(chosen(text), Ok(what), "{text}");
        }
    }

    #[test]
    fn without_such_a_one_all_are_listed() {
        let all = "(@0 \"docker.io/library/web:latest\", @1 \"shop/web:1\", @2 \"localhost/db:2\", \
                   @3 \"registry.example:5000/db\", @4 \"again:1\")";
        for (text, asked) in [(":web:2", "\"web:2\""), ("@5", "@5"), (":db", "\"db\"")] {
            let words = format!("it holds no image {asked} {all}");
            assert_eq!(chosen(text), Err(words));
        }
        let there = there();
        let error = choose(&there, None).map(drop).unwrap_err().to_string();
        let end = "; choose one by :NAME or @NUMBER behind the path";
        assert_eq!(error, format!("it holds 5 images {all}{end}"));
    }

    #[test]
    fn one_of_two_names_is_chosen_by_none() {
        let mut there = there();
        there.retain(|one| one.what == 2);
        assert_eq!(choose(&there, None).unwrap().place, 1);
        there.clear();
        assert!(choose(&there, None).is_err());
    }

    #[test]
    fn a_list_ends() {
        let there: Vec<_> = (0..100_000)
            .map(|place| Candidate {
                place,
                names: Vec::new(),
                what: place,
            })
            .collect();
        let error = choose(&there, None).map(drop).unwrap_err().to_string();
        assert!(error.contains("@15 and 99984 more)"), "{error}");
    }

    #[test]
    fn what_is_neither_a_name_nor_a_number_is_refused() {
        for text in ["", ":", "@", "@-1", "@one", "web"] {
            assert!(text.parse::<Choice>().is_err(), "{text}");
        }
    }
}
