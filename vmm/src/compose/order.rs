//! In which order services can be started, each after those that it needs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Project, Service};

/// Services, each after those that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order(pub Vec<String>);

/// What each service needs.
pub type Needs<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

impl Order {
    /// The services of `needs`, and of those that can be next the first by name.
    ///
    /// # Errors
    /// Some need each other in a circle: one such circle, its first service once more at its end.
    pub fn of(needs: &Needs<'_>) -> Result<Self, Vec<String>> {
        let mut ordered: Vec<&str> = Vec::new();
        let mut waiting: Needs<'_> = needs.clone();
        while !waiting.is_empty() {
            let is_free =
                |needs: &BTreeSet<&str>| !needs.iter().any(|one| waiting.contains_key(one));
            let next = waiting.iter().find(|(_, needs)| is_free(needs));
            let Some((&next, _)) = next else {
                return Err(circle(&waiting));
            };
            waiting.remove(next);
            ordered.push(next);
        }
        Ok(Self(ordered.into_iter().map(str::to_owned).collect()))
    }
}

/// A circle among services that all need one of their own.
fn circle(waiting: &Needs<'_>) -> Vec<String> {
    let mut path: Vec<&str> = Vec::new();
    let mut next = waiting.keys().next().copied();
    while let Some(name) = next {
        if let Some(start) = path.iter().position(|passed| *passed == name) {
            let circle = path[start..].iter().chain([&name]);
            return circle.map(ToString::to_string).collect();
        }
        path.push(name);
        let needs = waiting.get(name);
        next = needs.and_then(|needs| {
            needs
                .iter()
                .find(|one| waiting.contains_key(**one))
                .copied()
        });
    }
    Vec::new()
}

impl Project {
    /// What each service needs, of those that there are.
    pub fn needs(&self) -> Needs<'_> {
        let known = |name| {
            self.services
                .get_key_value(name)
                .map(|(name, _)| name.as_str())
        };
        self.services
            .iter()
            .map(|(name, service)| {
                let needs = service.depends_on.keys().filter_map(&known);
                (name.as_str(), needs.collect())
            })
            .collect()
    }

    /// All services, each after those that it needs.
    pub fn order(&self) -> Vec<String> {
        // A project that was read has no circle.
        Order::of(&self.needs()).map_or_else(|circle| circle, |order| order.0)
    }

    /// `chosen`, and all that they need, each after those that it needs.
    pub fn with_needs(&self, chosen: &BTreeSet<String>) -> Vec<String> {
        let mut wanted = chosen.clone();
        let mut order = self.order();
        // Who needs another one comes after it.
        for name in order.iter().rev() {
            if wanted.contains(name)
                && let Some(service) = self.services.get(name)
            {
                wanted.extend(service.depends_on.keys().cloned());
            }
        }
        order.retain(|name| wanted.contains(name));
        order
    }

    /// The services that are meant by `names`; by none all, but for those of other profiles.
    pub fn chosen(&self, names: &[String], profiles: &[String]) -> BTreeSet<String> {
        let is_chosen = |(name, service): &(&String, &Service)| {
            let has_profile = || service.profiles.iter().any(|one| profiles.contains(one));
            match names {
                [] => service.profiles.is_empty() || has_profile(),
                _ => names.contains(name),
            }
        };
        let chosen = self.services.iter().filter(is_chosen);
        chosen.map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(needs: &[(&'static str, &[&'static str])]) -> Result<String, String> {
        let needs = needs
            .iter()
            .map(|(name, needs)| (*name, needs.iter().copied().collect()));
        match Order::of(&needs.collect()) {
            Ok(order) => Ok(order.0.join(" ")),
            Err(circle) => Err(circle.join(" ")),
        }
    }

    #[test]
    fn each_comes_after_those_that_it_needs() {
        for (needs, expected) in [
            (&[][..], ""),
            (&[("a", &[][..]), ("b", &[][..])], "a b"),
            (&[("a", &["b"]), ("b", &["c"]), ("c", &[])], "c b a"),
            (
                &[("a", &["c", "d"]), ("b", &[]), ("c", &["d"]), ("d", &[])],
                "b d c a",
            ),
        ] {
            assert_eq!(order(needs), Ok(expected.into()));
        }
    }

    #[test]
    fn a_circle_is_named() {
        for (needs, expected) in [
            (&[("a", &["a"][..])][..], "a a"),
            (
                &[("a", &["b"]), ("b", &["c"]), ("c", &["b"]), ("d", &[])],
                "b c b",
            ),
            (
                &[("web", &["db"]), ("db", &["cache"]), ("cache", &["web"])],
                "cache web db cache",
            ),
        ] {
            assert_eq!(order(needs), Err(expected.into()));
        }
    }
}
