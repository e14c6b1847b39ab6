//! A YAML file as a tree in which every value knows where it stands.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Options, Spanned};

use super::error::{Fault, Origin, Place};

/// A value, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) tree: Tree,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Nothing,
    /// As it was written, without quotes.
    Text(String),
    List(Vec<Node>),
    /// In the order of the file.
    Map(Vec<(String, Node)>),
}

/// Reads a file's text.
///
/// # Errors
/// Says what is wrong in the words of the parser, and where.
pub(super) fn read(file: &str, text: &str) -> Result<Node, Fault> {
    if text.trim().is_empty() {
        return Ok(Node { place: Place { line: 1, column: 1 }, tree: Tree::Nothing });
    }
    let read: Result<Spanned<Tree>, _> = serde_saphyr::from_str_with_options(text, Options::default());
    read.map(Node::from).map_err(|error| {
        let place = error.location().map(|at| Place { line: at.line(), column: at.column() });
        // The first line says it; the rest draws the place, which the origin names.
        let said = error.without_snippet().to_string();
        let said = said.lines().next().unwrap_or("it is not YAML").to_owned();
        Fault::new(Origin::File { path: file.to_owned(), place: place.unwrap_or(Place { line: 1, column: 1 }) }, said)
    })
}

impl From<Spanned<Tree>> for Node {
    fn from(spanned: Spanned<Tree>) -> Self {
        let at = spanned.referenced;
        Self { place: Place { line: at.line(), column: at.column() }, tree: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a map")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Nothing)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element::<Spanned<Tree>>()? {
            nodes.push(node.into());
        }
        Ok(Tree::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = map.next_key::<Tree>()? {
            let Tree::Text(key) = key else {
                return Err(A::Error::custom("a key has to be a word"));
            };
            members.push((key, map.next_value::<Spanned<Tree>>()?.into()));
        }
        Ok(Tree::Map(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_where_it_stands() {
        let text = "events:\n  bus:\n    workers: 4\n    type: \"redis\"\n  list: [a, 2, true]\n  none:\n";
        let node = read("f.yaml", text).unwrap();
        let Tree::Map(top) = &node.tree else { panic!("{node:?}") };
        let Tree::Map(events) = &top[0].1.tree else { panic!("{top:?}") };
        let Tree::Map(bus) = &events[0].1.tree else { panic!("{events:?}") };
        let texts: Vec<_> = bus.iter().map(|(key, node)| (key.as_str(), &node.tree, node.place)).collect();
        assert_eq!(
            texts,
            [
                ("workers", &Tree::Text("4".to_owned()), Place { line: 3, column: 14 }),
                ("type", &Tree::Text("redis".to_owned()), Place { line: 4, column: 11 }),
            ]
        );
        let Tree::List(list) = &events[1].1.tree else { panic!("{events:?}") };
        assert_eq!(list[2].place, Place { line: 5, column: 16 });
        assert_eq!(events[2].1.tree, Tree::Nothing);
    }

    #[test]
    fn what_is_no_yaml_is_told_with_line_and_column() {
        let fault = read("f.yaml", "a: 1\nb: [1, 2\n").unwrap_err();
        assert!(fault.to_string().starts_with("f.yaml:"), "{fault}");
        let twice = read("f.yaml", "a: 1\nb: 2\na: 3\n").unwrap_err();
        assert!(twice.to_string().starts_with("f.yaml:3:"), "{twice}");
    }
}
