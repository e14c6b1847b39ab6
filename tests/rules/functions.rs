//! The functions of the tests' source and who calls whom, by their names: enough to see what a test does, whoever does it for it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A function, its words, and whose it is.
pub(crate) struct Function {
    pub(crate) file: String,
    pub(crate) name: String,
    /// The type whose `impl` it stands in.
    owner: Option<String>,
    pub(crate) is_test: bool,
    /// Other files may call it.
    is_shared: bool,
    words: Vec<String>,
}

/// All functions of one test binary, and of what the binaries share.
pub(crate) struct Functions {
    all: Vec<Function>,
    by_name: HashMap<String, Vec<usize>>,
}

pub(crate) fn files(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).unwrap().map(|entry| entry.unwrap().path());
    let all = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    all.filter(|path| path.extension().is_some_and(|end| end == "rs")).collect()
}

/// Words and single signs, without comments and the insides of texts.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            3 + raw.find("\"#").expect("a raw text ends") + 2
        } else if first == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|sign| {
                let ends = sign == '"' && !escaped;
                escaped = sign == '\\' && !escaped;
                ends
            });
            1 + end.expect("a text ends") + 1
        } else if rest.starts_with("'\\") {
            3 + rest[3..].find('\'').expect("a character ends") + 1
        } else if first == '\'' && rest.chars().nth(2) == Some('\'') {
            2 + rest.chars().nth(1).map_or(0, char::len_utf8)
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|sign: char| !sign.is_alphanumeric() && sign != '_').unwrap_or(rest.len());
            words.push(rest[..end].to_owned());
            end
        } else {
            if !first.is_whitespace() {
                words.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    words
}

/// The place of what closes the brace at `open`.
fn closing(words: &[String], open: usize) -> usize {
    let mut depth = 0;
    for (nth, word) in words.iter().enumerate().skip(open) {
        match &**word {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return nth;
        }
    }
    panic!("a brace is not closed")
}

/// The type of the `impl` at `at`: the last name before its body, its own generics and bounds aside.
fn implemented(words: &[String], at: usize) -> Option<String> {
    let (mut depth, mut owner) = (0, None);
    for pair in words[at + 1..].windows(2) {
        match &*pair[0] {
            "<" => depth += 1,
            ">" if pair[1] != ">" || depth > 0 => depth -= 1,
            "{" | "where" | ";" => break,
            name if depth == 0 && name.starts_with(char::is_uppercase) => owner = Some(name.to_owned()),
            _ => {}
        }
    }
    owner
}

impl Functions {
    /// Of the binary in folder `binary` of `tests`, and of `tests/support`.
    pub(crate) fn of(tests: &Path, binary: &str) -> Self {
        let mut made = Self { all: Vec::new(), by_name: HashMap::new() };
        for path in files(&tests.join(binary)).into_iter().chain(files(&tests.join("support"))) {
            let file = path.strip_prefix(tests).unwrap().to_string_lossy().into_owned();
            made.read(&file, &words(&fs::read_to_string(&path).unwrap()));
        }
        for (nth, function) in made.all.iter().enumerate() {
            made.by_name.entry(function.name.clone()).or_default().push(nth);
        }
        made
    }

    fn read(&mut self, file: &str, words: &[String]) {
        let is = |at: usize, wanted: &[&str]| {
            words[at..].iter().map(|word| &**word).take(wanted.len()).eq(wanted.iter().copied())
        };
        let (mut owners, mut listed) = (Vec::<(usize, Option<String>)>::new(), HashSet::new());
        let first = self.all.len();
        for at in 0..words.len() {
            owners.retain(|(end, _)| *end > at);
            match &*words[at] {
                "impl" if at == 0 || matches!(&*words[at - 1], "}" | ";" | "]" | "unsafe" | "{") => {
                    if let Some(open) = words[at..].iter().position(|word| word == "{") {
                        owners.push((closing(words, at + open), implemented(words, at)));
                    }
                }
                // Each name that it is given becomes a test.
                "on_every_store" if is(at + 1, &["!", "{"]) || is(at + 1, &["!", "("]) => {
                    let names = words[at + 3..].iter().take_while(|word| !matches!(&***word, "}" | ")"));
                    listed.extend(names.cloned());
                }
                "fn" if words[at + 1] != "$" && words[at + 1] != "(" => {
                    let mut depth = 0;
                    let open = words[at..].iter().position(|word| {
                        depth += i32::from(matches!(&**word, "(" | "[")) - i32::from(matches!(&**word, ")" | "]"));
                        depth == 0 && matches!(&**word, "{" | ";")
                    });
                    let Some(open) = open.map(|open| at + open).filter(|&open| words[open] == "{") else { continue };
                    let before = words[..at].iter().rposition(|word| matches!(&**word, "{" | "}" | ";"));
                    let head = &words[before.map_or(0, |before| before + 1)..at];
                    self.all.push(Function {
                        file: file.to_owned(),
                        name: words[at + 1].clone(),
                        owner: owners.last().and_then(|(_, owner)| owner.clone()),
                        is_test: head.windows(3).any(|three| three == ["[", "test", "]"]),
                        is_shared: head.iter().any(|word| word == "pub"),
                        words: words[at..=closing(words, open)].to_vec(),
                    });
                }
                _ => {}
            }
        }
        for function in self.all[first..].iter_mut().filter(|function| function.owner.is_none()) {
            function.is_test |= listed.contains(&function.name);
        }
    }

    pub(crate) fn tests(&self) -> impl Iterator<Item = &Function> {
        self.all.iter().filter(|function| function.is_test)
    }

    /// The function, and all that it calls, and what those call.
    pub(crate) fn reached<'a>(&'a self, from: &'a Function) -> Vec<&'a Function> {
        let mut reached: Vec<&Function> = vec![from];
        let mut met: HashSet<*const Function> = HashSet::from([std::ptr::from_ref(from)]);
        let mut types = HashSet::new();
        let mut looked_at = 0;
        // A type may be met after a call of one of its methods was.
        loop {
            let types_before = types.len();
            while let Some(&function) = reached.get(looked_at) {
                looked_at += 1;
                types.extend(function.words.iter().chain(&function.owner).map(String::as_str));
                for called in self.called_by(function, &types) {
                    if met.insert(std::ptr::from_ref(called)) {
                        reached.push(called);
                    }
                }
            }
            if types.len() == types_before {
                return reached;
            }
            looked_at = 0;
        }
    }

    fn called_by<'a>(&'a self, function: &'a Function, types: &HashSet<&'a str>) -> Vec<&'a Function> {
        let words = &function.words;
        let word = |at: Option<usize>| at.and_then(|at| words.get(at)).map_or("", |word| &**word);
        let mut called = Vec::new();
        for (at, name) in words.iter().enumerate() {
            // A value's end belongs to whoever made it.
            let ends = self.by_name.get("drop").map_or(&[][..], |named| named).iter().map(|&nth| &self.all[nth]);
            called.extend(ends.filter(|end| end.owner.as_ref() == Some(name)));
            let Some(named) = self.by_name.get(name) else { continue };
            let (before, behind) = (word(at.checked_sub(1)), word(Some(at + 1)));
            let owner = if before == ":" { word(at.checked_sub(3)) } else { "" };
            let owner = if owner == "Self" { function.owner.as_deref().unwrap_or("") } else { owner };
            let is_call = behind == "(" || behind == ":" && word(Some(at + 3)) == "<";
            // Given to somebody who calls it.
            let is_given = matches!(before, "(" | "," | ":") && matches!(behind, ")" | ",");
            let fits = |other: &&Function| match &other.owner {
                Some(own) if before == "." => is_call && types.contains(&**own),
                Some(own) => (is_call || is_given) && own == owner,
                None if before == "." || owner.starts_with(char::is_uppercase) => false,
                None => (is_call || is_given) && (other.is_shared || other.file == function.file),
            };
            let found: Vec<_> = named.iter().map(|&nth| &self.all[nth]).filter(fits).collect();
            let near: Vec<_> = found.iter().copied().filter(|other| other.file == function.file).collect();
            called.extend(if near.is_empty() { found } else { near });
        }
        called
    }
}

impl Function {
    /// Whether these words follow each other in it.
    pub(crate) fn says(&self, words: &[&str]) -> bool {
        self.words.windows(words.len()).any(|here| here == words)
    }
}
